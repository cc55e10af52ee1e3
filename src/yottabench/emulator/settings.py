"""Everything about the emulator that can be set, with its default and what it means."""

from pathlib import Path
from typing import Literal

import attrs

DeliveredStatus = Literal["webhook", "worker", "sample"]
DuplicateTask = Literal["reject", "first-wins"]
Egress = Literal["loopback", "public"]
ErrorStyle = Literal["status", "envelope200"]
Limits = Literal["off", "documented"]


@attrs.frozen(kw_only=True)
class Settings:
    """How one emulator behaves. Field names are the command line's options with underscores."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    delivered_status: DeliveredStatus = "webhook"
    """What DELIVERED means: `webhook` (result acknowledged by the receiver), `worker` (handed to a worker, as in v1),
    `sample` (never shown; a delivered result stays SUCCESS, as in the documented sample)."""
    duplicate_task: DuplicateTask = "reject"
    """A known taskId with another payload: `reject` it, or `first-wins` (answer with the task that is there)."""
    error_style: ErrorStyle = "status"
    """`status`: errors carry their HTTP status. `envelope200`: HTTP 200 and the code alone, as seen on the service."""
    limits: Limits = "off"
    """`documented`: the rates and the number of open tasks that version 1 documents, answered with 429."""
    strict_lifecycle: bool = False
    """Refuse (24002) what the vendor's console refuses: to change or delete what is not STOPPED, to start what runs."""
    strict_validation: bool = False
    """Refuse unknown fields, unknown GPU types, and GPU counts that are no power of two or not equal."""
    concurrency: int = 1
    """Tasks that one worker is given at a time."""
    worker_timeout_s: float = 3600.0
    """How long a worker may take for one task; then its lease ends and the task goes back to the queue."""
    max_attempts: int = 4
    """Attempts that may end without a worker's answer before the task is FAILED."""
    retry_busy: bool = False
    """Try a task again, after Retry-After, when its worker answers 429, 502, 503 or 504; else those are failures."""
    max_workers_total: int = 256
    """Workers that run at a time, of all endpoints together: each is a process. More of them wait, INITIALIZING."""
    drain_s: float = 30.0
    """How long a worker that is to go may go on with the task in its hands."""
    webhook_retry_s: tuple[float, ...] = (60.0, 300.0, 900.0)
    """Seconds between the sends of a webhook that is not acknowledged: the 2nd comes after the first figure."""
    webhook_timeout_s: float = 10.0
    egress: Egress = "loopback"
    """Where webhooks may go: this machine's `loopback` alone, or also `public` (global) addresses; in both cases to the
    hosts of `webhook_allow`."""
    webhook_allow: tuple[str, ...] = ()
    """Hosts, besides those of this machine's loopback, that webhooks may be sent to."""
    api_keys: frozenset[str] = attrs.field(default=frozenset(), repr=False)
    """The keys that are let in. Empty: any non-empty key, each its own namespace; only on a loopback address."""
    control_key: str | None = attrs.field(default=None, repr=False)
    """What X-Control-Key must be for /_emulator/. None: no key, and callers on this machine only."""
    retention_days: float = 7.0
    """How long ended tasks, workers and log lines are kept; what is open or not delivered yet stays."""
    logs_max_mb: float = 1024.0
    """Megabytes of log lines of all workers together; beyond it the oldest lines of the longest log go."""
    seed_file: Path | None = None
    """Endpoints and tasks to make at start, as JSON or TOML."""
    images: Path | None = None
    """The file that says what images run as. None: `images.toml` in the data folder, when there is one."""
    drivers: tuple[str, ...] = ()
    """Drivers to ask, in this order, for images that the images file does not name: `docker`, or those of installed
    packages. What none of them takes is simulated."""
    docker_gpus: bool = False
    """Give each container as many GPUs as the endpoint's `gpuCount`; the Docker host must have them."""
    cold_start_s: float = 0.0
    """Mean time that a simulated worker takes to become ready; drawn for each from a log-normal distribution."""
    gateway_timeout_s: float = 600.0
    """How long a worker of an ALB endpoint, or its client, may be silent in the middle of a request."""
    gateway_domain: str = ""
    """ALB endpoints are reached as `<id>.` and this, which is what `domain` shows. Empty: `localhost:<port>`."""
    seed: int = 0
    """Of everything drawn by chance, such as the service times of simulated workers."""
