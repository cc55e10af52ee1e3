from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="UpdateEndpointRequest")


@_attrs_define
class UpdateEndpointRequest:
    """New settings of an endpoint. Optional fields left out stay as they are, null removes them (N39).

    Attributes:
        name (str): 1 to 20 characters, a letter first, then letters, digits and @ . _ - (N40). Need not be unique.
        resources (list[EndpointResource]): GPUs of the workers; at least one entry.
        workers (int): How many workers to run; at least one here.
        container_volume_in_gb (int): Disk of each worker in GB.
        min_single_card_vram_in_gb (int | None | Unset): Least memory of one GPU in GB.
        min_single_card_vcpu (int | None | Unset): Least virtual CPUs per GPU.
        min_single_card_ram_in_gb (int | None | Unset): Least main memory per GPU in GB.
        credential_id (int | None | Unset): Id of the registry credential, for private images.
        container_registry_auth_id (int | None | Unset): The name that createEndpoint uses for credentialId. Both, but
            different, is an error (N23).
        initialization_command (None | str | Unset): Command that the container runs first.
        environment_vars (list[EnvironmentVar] | None | Unset): Environment of the container.
        env_vars (list[EnvironmentVar] | None | Unset): Old name of environmentVars. Both, but different, is an error
            (N23).
        expose (Expose | None | Unset):
        webhook (None | str | Unset):
    """

    name: str
    resources: list[EndpointResource]
    workers: int
    container_volume_in_gb: int
    min_single_card_vram_in_gb: int | None | Unset = UNSET
    min_single_card_vcpu: int | None | Unset = UNSET
    min_single_card_ram_in_gb: int | None | Unset = UNSET
    credential_id: int | None | Unset = UNSET
    container_registry_auth_id: int | None | Unset = UNSET
    initialization_command: None | str | Unset = UNSET
    environment_vars: list[EnvironmentVar] | None | Unset = UNSET
    env_vars: list[EnvironmentVar] | None | Unset = UNSET
    expose: Expose | None | Unset = UNSET
    webhook: None | str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        name = self.name

        resources = []
        for resources_item_data in self.resources:
            resources_item = resources_item_data.to_dict()
            resources.append(resources_item)

        workers = self.workers

        container_volume_in_gb = self.container_volume_in_gb

        min_single_card_vram_in_gb: int | None | Unset
        if isinstance(self.min_single_card_vram_in_gb, Unset):
            min_single_card_vram_in_gb = UNSET
        else:
            min_single_card_vram_in_gb = self.min_single_card_vram_in_gb

        min_single_card_vcpu: int | None | Unset
        if isinstance(self.min_single_card_vcpu, Unset):
            min_single_card_vcpu = UNSET
        else:
            min_single_card_vcpu = self.min_single_card_vcpu

        min_single_card_ram_in_gb: int | None | Unset
        if isinstance(self.min_single_card_ram_in_gb, Unset):
            min_single_card_ram_in_gb = UNSET
        else:
            min_single_card_ram_in_gb = self.min_single_card_ram_in_gb

        credential_id: int | None | Unset
        if isinstance(self.credential_id, Unset):
            credential_id = UNSET
        else:
            credential_id = self.credential_id

        container_registry_auth_id: int | None | Unset
        if isinstance(self.container_registry_auth_id, Unset):
            container_registry_auth_id = UNSET
        else:
            container_registry_auth_id = self.container_registry_auth_id

        initialization_command: None | str | Unset
        if isinstance(self.initialization_command, Unset):
            initialization_command = UNSET
        else:
            initialization_command = self.initialization_command

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

        env_vars: list[dict[str, Any]] | None | Unset
        if isinstance(self.env_vars, Unset):
            env_vars = UNSET
        elif isinstance(self.env_vars, list):
            env_vars = []
            for env_vars_type_0_item_data in self.env_vars:
                env_vars_type_0_item = env_vars_type_0_item_data.to_dict()
                env_vars.append(env_vars_type_0_item)

        else:
            env_vars = self.env_vars

        expose: dict[str, Any] | None | Unset
        if isinstance(self.expose, Unset):
            expose = UNSET
        elif isinstance(self.expose, Expose):
            expose = self.expose.to_dict()
        else:
            expose = self.expose

        webhook: None | str | Unset
        if isinstance(self.webhook, Unset):
            webhook = UNSET
        else:
            webhook = self.webhook

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "name": name,
                "resources": resources,
                "workers": workers,
                "containerVolumeInGb": container_volume_in_gb,
            }
        )
        if min_single_card_vram_in_gb is not UNSET:
            field_dict["minSingleCardVramInGb"] = min_single_card_vram_in_gb
        if min_single_card_vcpu is not UNSET:
            field_dict["minSingleCardVcpu"] = min_single_card_vcpu
        if min_single_card_ram_in_gb is not UNSET:
            field_dict["minSingleCardRamInGb"] = min_single_card_ram_in_gb
        if credential_id is not UNSET:
            field_dict["credentialId"] = credential_id
        if container_registry_auth_id is not UNSET:
            field_dict["containerRegistryAuthId"] = container_registry_auth_id
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

        resources = []
        _resources = d.pop("resources")
        for resources_item_data in _resources:
            resources_item = EndpointResource.from_dict(resources_item_data)

            resources.append(resources_item)

        workers = d.pop("workers")

        container_volume_in_gb = d.pop("containerVolumeInGb")

        def _parse_min_single_card_vram_in_gb(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        min_single_card_vram_in_gb = _parse_min_single_card_vram_in_gb(d.pop("minSingleCardVramInGb", UNSET))

        def _parse_min_single_card_vcpu(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        min_single_card_vcpu = _parse_min_single_card_vcpu(d.pop("minSingleCardVcpu", UNSET))

        def _parse_min_single_card_ram_in_gb(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        min_single_card_ram_in_gb = _parse_min_single_card_ram_in_gb(d.pop("minSingleCardRamInGb", UNSET))

        def _parse_credential_id(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        credential_id = _parse_credential_id(d.pop("credentialId", UNSET))

        def _parse_container_registry_auth_id(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("int | None | Unset", data)

        container_registry_auth_id = _parse_container_registry_auth_id(d.pop("containerRegistryAuthId", UNSET))

        def _parse_initialization_command(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        initialization_command = _parse_initialization_command(d.pop("initializationCommand", UNSET))

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

        def _parse_env_vars(data: object) -> list[EnvironmentVar] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            if isinstance(data, list):
                env_vars_type_0 = []
                _env_vars_type_0 = data
                for env_vars_type_0_item_data in _env_vars_type_0:
                    env_vars_type_0_item = EnvironmentVar.from_dict(env_vars_type_0_item_data)

                    env_vars_type_0.append(env_vars_type_0_item)

                return env_vars_type_0
            raise TypeError(f"envVars cannot be of type {type(data).__name__}")

        env_vars = _parse_env_vars(d.pop("envVars", UNSET))

        def _parse_expose(data: object) -> Expose | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            if isinstance(data, dict):
                expose_type_0 = Expose.from_dict(data)

                return expose_type_0
            raise TypeError(f"expose cannot be of type {type(data).__name__}")

        expose = _parse_expose(d.pop("expose", UNSET))

        def _parse_webhook(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast("None | str | Unset", data)

        webhook = _parse_webhook(d.pop("webhook", UNSET))

        update_endpoint_request = cls(
            name=name,
            resources=resources,
            workers=workers,
            container_volume_in_gb=container_volume_in_gb,
            min_single_card_vram_in_gb=min_single_card_vram_in_gb,
            min_single_card_vcpu=min_single_card_vcpu,
            min_single_card_ram_in_gb=min_single_card_ram_in_gb,
            credential_id=credential_id,
            container_registry_auth_id=container_registry_auth_id,
            initialization_command=initialization_command,
            environment_vars=environment_vars,
            env_vars=env_vars,
            expose=expose,
            webhook=webhook,
        )

        update_endpoint_request.additional_properties = d
        return update_endpoint_request

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
