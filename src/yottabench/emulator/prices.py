"""What running workers cost: a price table, because the API shows a cost and no price list is published."""

from yottabench.emulator.store.base import EndpointSpec

# US dollars per GPU and hour. Two figures are public examples (H100, storage); the others are ours, in proportion.
GPU_USD_PER_HOUR = {
    "NVIDIA_RTX_4090_24G": 0.35,
    "NVIDIA_RTX_5090_32G": 0.55,
    "NVIDIA_L4_24G": 0.30,
    "NVIDIA_A100_80G": 1.10,
    "NVIDIA_H100_80G": 1.85,
    "NVIDIA_H200_141G": 2.40,
    "NVIDIA_B200_180G": 3.90,
}
OTHER_GPU_USD_PER_HOUR = 1.00
STORAGE_USD_PER_GB_HOUR = 0.001


def worker_usd_per_hour(spec: EndpointSpec) -> float:
    """One worker of this endpoint for one hour: its GPUs and its disk."""
    gpus = sum(
        GPU_USD_PER_HOUR.get(resource.gpu_type, OTHER_GPU_USD_PER_HOUR) * resource.gpu_count
        for resource in spec.resources
    )
    return gpus + STORAGE_USD_PER_GB_HOUR * spec.container_volume_in_gb
