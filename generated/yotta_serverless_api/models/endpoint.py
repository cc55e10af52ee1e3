from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.endpoint_status import EndpointStatus
from ..models.service_mode import ServiceMode
from ..types import UNSET, Unset

T = TypeVar("T", bound="Endpoint")


@_attrs_define
class Endpoint:
    """An endpoint as the server sees it.

    Attributes:
        id (str): Decimal digits (N22).
        name (str):
        image (str):
        status (EndpointStatus): Where the endpoint stands in its life. The sources differ; this is their union (N20).
        total_workers (int): How many workers it is to have.
        running_workers (int): How many of them are ready.
        cost (float): US dollars since its creation (N25).
        service_mode (ServiceMode): How requests reach the workers: ALB balances HTTP over them, QUEUE hands them the
            tasks of a queue, CUSTOM leaves it to the image.
        image_registry (None | str | Unset): Registry of the image.
        webhook (None | str | Unset): Where worker status changes are sent.
        resources (list[EndpointResource] | None | Unset): GPUs of the workers.
        container_volume_in_gb (int | None | Unset): Disk of each worker in GB.
        environment_vars (list[EnvironmentVar] | None | Unset): Environment of the container.
        expose (ExposedPort | None | Unset):
        per_hour_price (float | None | Unset): US dollars per hour at the present size (N25).
        per_second_price (float | None | Unset): US dollars per second at the present size (N25).
        domain (None | str | Unset): Host, with its port where it needs one, under which an ALB endpoint is reached
            (N51).
        created_at (None | str | Unset): ISO 8601, UTC (N24).
        updated_at (None | str | Unset): ISO 8601, UTC (N24).
    """

    id: str
    name: str
    image: str
    status: EndpointStatus
    total_workers: int
    running_workers: int
    cost: float
    service_mode: ServiceMode
    image_registry: None | str | Unset = UNSET
    webhook: None | str | Unset = UNSET
    resources: list[EndpointResource] | None | Unset = UNSET
    container_volume_in_gb: int | None | Unset = UNSET
    environment_vars: list[EnvironmentVar] | None | Unset = UNSET
    expose: ExposedPort | None | Unset = UNSET
    per_hour_price: float | None | Unset = UNSET
    per_second_price: float | None | Unset = UNSET
    domain: None | str | Unset = UNSET
    created_at: None | str | Unset = UNSET
    updated_at: None | str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        name = self.name

        image = self.image

        status = self.status.value

        total_workers = self.total_workers

        running_workers = self.running_workers

        cost = self.cost

        service_mode = self.service_mode.value

        image_registry: None | str | Unset
        if isinstance(self.image_registry, Unset):
            image_registry = UNSET
        else:
            image_registry = self.image_registry

        webhook: None | str | Unset
        if isinstance(self.webhook, Unset):
            webhook = UNSET
        else:
            webhook = self.webhook

        resources: list[dict[str, Any]] | None | Unset
        if isinstance(self.resources, Unset):
            resources = UNSET
        elif isinstance(self.resources, list):
            resources = []
            for resources_type_0_item_data in self.resources:
                resources_type_0_item = resources_type_0_item_data.to_dict()
                resources.append(resources_type_0_item)

        else:
            resources = self.resources

        container_volume_in_gb: int | None | Unset
        if isinstance(self.container_volume_in_gb, Unset):
            container_volume_in_gb = UNSET
        else:
            container_volume_in_gb = self.container_volume_in_gb

        environment_vars: list[dict[str, Any]] | None | Unset
        if isinstance(self.environment_vars, Unset):
            environment_vars = UNSET
        elif isinstance(self.environment_vars, list):
            environment_vars = []
            for environment_vars_type_0_item_data in self.environment_vars:
                environment_vars_type_0_item = environment_vars_type_0_item_data.to_dict()
                environment_vars.append(environment_vars_type_0_item)

        else:
            environment_vars = self.environment_vars

        expose: dict[str, Any] | None | Unset
        if isinstance(self.expose, Unset):
            expose = UNSET
        elif isinstance(self.expose, ExposedPort):
            expose = self.expose.to_dict()
        else:
            expose = self.expose

        per_hour_price: float | None | Unset
        if isinstance(self.per_hour_price, Unset):
            per_hour_price = UNSET
        else:
            per_hour_price = self.per_hour_price

        per_second_price: float | None | Unset
        if isinstance(self.per_second_price, Unset):
            per_second_price = UNSET
        else:
            per_second_price = self.per_second_price

        domain: None | str | Unset
        if isinstance(self.domain, Unset):
            domain = UNSET
        else:
            domain = self.domain

        created_at: None | str | Unset
        if isinstance(self.created_at, Unset):
            created_at = UNSET
        else:
            created_at = self.created_at

        updated_at: None | str | Unset
        if isinstance(self.updated_at, Unset):
            updated_at = UNSET
        else:
            updated_at = self.updated_at

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "name": name,
                "image": image,
                "status": status,
                "totalWorkers": total_workers,
                "runningWorkers": running_workers,
                "cost": cost,
                "serviceMode": service_mode,
            }
        )
        if image_registry is not UNSET:
            field_dict["imageRegistry"] = image_registry
        if webhook is not UNSET:
            field_dict["webhook"] = webhook
        if resources is not UNSET:
            field_dict["resources"] = resources
        if container_volume_in_gb is not UNSET:
            field_dict["containerVolumeInGb"] = container_volume_in_gb
        if environment_vars is not UNSET:
            field_dict["environmentVars"] = environment_vars
        if expose is not UNSET:
            field_dict["expose"] = expose
        if per_hour_price is not UNSET:
            field_dict["perHourPrice"] = per_hour_price
        if per_second_price is not UNSET:
            field_dict["perSecondPrice"] = per_second_price
        if domain is not UNSET:
            field_dict["domain"] = domain
        if created_at is not UNSET:
            field_dict["createdAt"] = created_at
        if updated_at is not UNSET:
            field_dict["updatedAt"] = updated_at

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        id = d.pop("id")

        name = d.pop("name")

        image = d.pop("image")

        status = EndpointStatus(d.pop("status"))

        total_workers = d.pop("totalWorkers")

        running_workers = d.pop("runningWorkers")

        cost = d.pop("cost")

        service_mode = ServiceMode(d.pop("serviceMode"))

        def _parse_image_registry(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        image_registry = _parse_image_registry(d.pop("imageRegistry", UNSET))

        def _parse_webhook(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        webhook = _parse_webhook(d.pop("webhook", UNSET))

        def _parse_resources(data: object) -> list[EndpointResource] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            if isinstance(data, list):
                resources_type_0 = []
                _resources_type_0 = data
                for resources_type_0_item_data in _resources_type_0:
                    resources_type_0_item = EndpointResource.from_dict(resources_type_0_item_data)

                    resources_type_0.append(resources_type_0_item)

                return resources_type_0
            raise TypeError(f"resources cannot be of type {type(data).__name__}")

        resources = _parse_resources(d.pop("resources", UNSET))

        def _parse_container_volume_in_gb(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        container_volume_in_gb = _parse_container_volume_in_gb(d.pop("containerVolumeInGb", UNSET))

        def _parse_environment_vars(data: object) -> list[EnvironmentVar] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            if isinstance(data, list):
                environment_vars_type_0 = []
                _environment_vars_type_0 = data
                for environment_vars_type_0_item_data in _environment_vars_type_0:
                    environment_vars_type_0_item = EnvironmentVar.from_dict(environment_vars_type_0_item_data)

                    environment_vars_type_0.append(environment_vars_type_0_item)

                return environment_vars_type_0
            raise TypeError(f"environmentVars cannot be of type {type(data).__name__}")

        environment_vars = _parse_environment_vars(d.pop("environmentVars", UNSET))

        def _parse_expose(data: object) -> ExposedPort | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            if isinstance(data, dict):
                expose_type_0 = ExposedPort.from_dict(data)

                return expose_type_0
            raise TypeError(f"expose cannot be of type {type(data).__name__}")

        expose = _parse_expose(d.pop("expose", UNSET))

        def _parse_per_hour_price(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("float | None | Unset", data)

        per_hour_price = _parse_per_hour_price(d.pop("perHourPrice", UNSET))

        def _parse_per_second_price(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("float | None | Unset", data)

        per_second_price = _parse_per_second_price(d.pop("perSecondPrice", UNSET))

        def _parse_domain(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        domain = _parse_domain(d.pop("domain", UNSET))

        def _parse_created_at(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        created_at = _parse_created_at(d.pop("createdAt", UNSET))

        def _parse_updated_at(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        updated_at = _parse_updated_at(d.pop("updatedAt", UNSET))

        endpoint = cls(
            id=id,
            name=name,
            image=image,
            status=status,
            total_workers=total_workers,
            running_workers=running_workers,
            cost=cost,
            service_mode=service_mode,
            image_registry=image_registry,
            webhook=webhook,
            resources=resources,
            container_volume_in_gb=container_volume_in_gb,
            environment_vars=environment_vars,
            expose=expose,
            per_hour_price=per_hour_price,
            per_second_price=per_second_price,
            domain=domain,
            created_at=created_at,
            updated_at=updated_at,
        )

        endpoint.additional_properties = d
        return endpoint

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties


from ..models.endpoint_resource import EndpointResource  # noqa: E402
from ..models.environment_var import EnvironmentVar  # noqa: E402
from ..models.exposed_port import ExposedPort  # noqa: E402
