"""Contains all the data models used in inputs/outputs"""

from .action_envelope import ActionEnvelope
from .create_endpoint_request import CreateEndpointRequest
from .delivery_status import DeliveryStatus
from .endpoint import Endpoint
from .endpoint_envelope import EndpointEnvelope
from .endpoint_list_envelope import EndpointListEnvelope
from .endpoint_resource import EndpointResource
from .endpoint_status import EndpointStatus
from .environment_var import EnvironmentVar
from .error_envelope import ErrorEnvelope
from .expose import Expose
from .exposed_port import ExposedPort
from .log_direction import LogDirection
from .log_entry import LogEntry
from .log_page import LogPage
from .log_page_envelope import LogPageEnvelope
from .notification_status import NotificationStatus
from .service_mode import ServiceMode
from .submit_task_request import SubmitTaskRequest
from .submitted_task import SubmittedTask
from .submitted_task_envelope import SubmittedTaskEnvelope
from .task import Task
from .task_count import TaskCount
from .task_count_envelope import TaskCountEnvelope
from .task_envelope import TaskEnvelope
from .task_headers import TaskHeaders
from .task_page import TaskPage
from .task_page_envelope import TaskPageEnvelope
from .task_result_notification import TaskResultNotification
from .task_status import TaskStatus
from .task_summary import TaskSummary
from .update_endpoint_request import UpdateEndpointRequest
from .worker import Worker
from .worker_list_envelope import WorkerListEnvelope
from .worker_status import WorkerStatus
from .worker_status_notification import WorkerStatusNotification

__all__ = (
    "ActionEnvelope",
    "CreateEndpointRequest",
    "DeliveryStatus",
    "Endpoint",
    "EndpointEnvelope",
    "EndpointListEnvelope",
    "EndpointResource",
    "EndpointStatus",
    "EnvironmentVar",
    "ErrorEnvelope",
    "Expose",
    "ExposedPort",
    "LogDirection",
    "LogEntry",
    "LogPage",
    "LogPageEnvelope",
    "NotificationStatus",
    "ServiceMode",
    "SubmitTaskRequest",
    "SubmittedTask",
    "SubmittedTaskEnvelope",
    "Task",
    "TaskCount",
    "TaskCountEnvelope",
    "TaskEnvelope",
    "TaskHeaders",
    "TaskPage",
    "TaskPageEnvelope",
    "TaskResultNotification",
    "TaskStatus",
    "TaskSummary",
    "UpdateEndpointRequest",
    "Worker",
    "WorkerListEnvelope",
    "WorkerStatus",
    "WorkerStatusNotification",
)
