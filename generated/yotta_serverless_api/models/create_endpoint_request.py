from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.service_mode import ServiceMode
from ..types import UNSET, Unset

T = TypeVar("T", bound="CreateEndpointRequest")


@_attrs_define
class CreateEndpointRequest:
    """What a new endpoint is to run, and on what.

    Attributes:
        name (str): 1 to 20 characters, a letter first, then letters, digits and @ . _ - (N40). Need not be unique.
        image (str): The container image.
        resources (list[EndpointResource]): GPUs of the workers; at least one entry.
        workers (int): How many workers to run. Zero makes a queue that only collects (N19).
        container_volume_in_gb (int): Disk of each worker in GB.
        service_mode (ServiceMode): How requests reach the workers: ALB balances HTTP over them, QUEUE hands them the
            tasks of a queue, CUSTOM leaves it to the image.
        image_registry (str | Unset): Registry of the image; Docker Hub when empty or left out.
        container_registry_auth_id (int | Unset): Id of the registry credential, for private images.
        credential_id (int | Unset): Old name of containerRegistryAuthId. Both, but different, is an error (N23).
        min_single_card_vram_in_gb (int | Unset): Least memory of one GPU in GB.
        min_single_card_vcpu (int | Unset): Least virtual CPUs per GPU.
        min_single_card_ram_in_gb (int | Unset): Least main memory per GPU in GB.
        initialization_command (str | Unset): Command that the container runs first.
        environment_vars (list[EnvironmentVar] | Unset): Environment of the container.
        env_vars (list[EnvironmentVar] | Unset): Old name of environmentVars. Both, but different, is an error (N23).
        expose (Expose | Unset): The port on which the container serves. A worker counts as running once this port
            answers (N31).
        webhook (str | Unset): An http or https URL with a host and without user name or password (N41).
    """

    name: str
    image: str
    resources: list[EndpointResource]
    workers: int
    container_volume_in_gb: int
    service_mode: ServiceMode
    image_registry: str | Unset = UNSET
    container_registry_auth_id: int | Unset = UNSET
    credential_id: int | Unset = UNSET
    min_single_card_vram_in_gb: int | Unset = UNSET
    min_single_card_vcpu: int | Unset = UNSET
    min_single_card_ram_in_gb: int | Unset = UNSET
    initialization_command: str | Unset = UNSET
    environment_vars: list[EnvironmentVar] | Unset = UNSET
    env_vars: list[EnvironmentVar] | Unset = UNSET
    expose: Expose | Unset = UNSET
    webhook: str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        name = self.name

        image = self.image

        resources = []
        for resources_item_data in self.resources:
            resources_item = resources_item_data.to_dict()
            resources.append(resources_item)

        workers = self.workers

        container_volume_in_gb = self.container_volume_in_gb

        service_mode = self.service_mode.value

        image_registry = self.image_registry

        container_registry_auth_id = self.container_registry_auth_id

        credential_id = self.credential_id

        min_single_card_vram_in_gb = self.min_single_card_vram_in_gb

        min_single_card_vcpu = self.min_single_card_vcpu

        min_single_card_ram_in_gb = self.min_single_card_ram_in_gb

        initialization_command = self.initialization_command

        environment_vars: list[dict[str, Any]] | Unset = UNSET
        if not isinstance(self.environment_vars, Unset):
            environment_vars = []
            for environment_vars_item_data in self.environment_vars:
                environment_vars_item = environment_vars_item_data.to_dict()
                environment_vars.append(environment_vars_item)

        env_vars: list[dict[str, Any]] | Unset = UNSET
        if not isinstance(self.env_vars, Unset):
            env_vars = []
            for env_vars_item_data in self.env_vars:
                env_vars_item = env_vars_item_data.to_dict()
                env_vars.append(env_vars_item)

        expose: dict[str, Any] | Unset = UNSET
        if not isinstance(self.expose, Unset):
            expose = self.expose.to_dict()

        webhook = self.webhook

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "name": name,
                "image": image,
                "resources": resources,
                "workers": workers,
                "containerVolumeInGb": container_volume_in_gb,
                "serviceMode": service_mode,
            }
        )
        if image_registry is not UNSET:
            field_dict["imageRegistry"] = image_registry
        if container_registry_auth_id is not UNSET:
            field_dict["containerRegistryAuthId"] = container_registry_auth_id
        if credential_id is not UNSET:
            field_dict["credentialId"] = credential_id
        if min_single_card_vram_in_gb is not UNSET:
            field_dict["minSingleCardVramInGb"] = min_single_card_vram_in_gb
        if min_single_card_vcpu is not UNSET:
            field_dict["minSingleCardVcpu"] = min_single_card_vcpu
        if min_single_card_ram_in_gb is not UNSET:
            field_dict["minSingleCardRamInGb"] = min_single_card_ram_in_gb
        if initialization_command is not UNSET:
            field_dict["initializationCommand"] = initialization_command
        if environment_vars is not UNSET:
            field_dict["environmentVars"] = environment_vars
        if env_vars is not UNSET:
            field_dict["envVars"] = env_vars
        if expose is not UNSET:
            field_dict["expose"] = expose
        if webhook is not UNSET:
            field_dict["webhook"] = webhook

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        name = d.pop("name")

        image = d.pop("image")

        resources = []
        _resources = d.pop("resources")
        for resources_item_data in _resources:
            resources_item = EndpointResource.from_dict(resources_item_data)

            resources.append(resources_item)

        workers = d.pop("workers")

        container_volume_in_gb = d.pop("containerVolumeInGb")

        service_mode = ServiceMode(d.pop("serviceMode"))

        image_registry = d.pop("imageRegistry", UNSET)

        container_registry_auth_id = d.pop("containerRegistryAuthId", UNSET)

        credential_id = d.pop("credentialId", UNSET)

        min_single_card_vram_in_gb = d.pop("minSingleCardVramInGb", UNSET)

        min_single_card_vcpu = d.pop("minSingleCardVcpu", UNSET)

        min_single_card_ram_in_gb = d.pop("minSingleCardRamInGb", UNSET)

        initialization_command = d.pop("initializationCommand", UNSET)

        _environment_vars = d.pop("environmentVars", UNSET)
        environment_vars: list[EnvironmentVar] | Unset = UNSET
        if _environment_vars is not UNSET:
            environment_vars = []
            for environment_vars_item_data in _environment_vars:
                environment_vars_item = EnvironmentVar.from_dict(environment_vars_item_data)

                environment_vars.append(environment_vars_item)

        _env_vars = d.pop("envVars", UNSET)
        env_vars: list[EnvironmentVar] | Unset = UNSET
        if _env_vars is not UNSET:
            env_vars = []
            for env_vars_item_data in _env_vars:
                env_vars_item = EnvironmentVar.from_dict(env_vars_item_data)

                env_vars.append(env_vars_item)

        _expose = d.pop("expose", UNSET)
        expose: Expose | Unset
        if isinstance(_expose, Unset):
            expose = UNSET
        else:
            expose = Expose.from_dict(_expose)

        webhook = d.pop("webhook", UNSET)

        create_endpoint_request = cls(
            name=name,
            image=image,
            resources=resources,
            workers=workers,
            container_volume_in_gb=container_volume_in_gb,
            service_mode=service_mode,
            image_registry=image_registry,
            container_registry_auth_id=container_registry_auth_id,
            credential_id=credential_id,
            min_single_card_vram_in_gb=min_single_card_vram_in_gb,
            min_single_card_vcpu=min_single_card_vcpu,
            min_single_card_ram_in_gb=min_single_card_ram_in_gb,
            initialization_command=initialization_command,
            environment_vars=environment_vars,
            env_vars=env_vars,
            expose=expose,
            webhook=webhook,
        )

        create_endpoint_request.additional_properties = d
        return create_endpoint_request

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
from ..models.expose import Expose  # noqa: E402
