"""The operations as they are with `with_raw_response`."""

from yottabench.client.async_resources import AsyncEndpoints, AsyncWorkers
from yottabench.client.async_tasks import AsyncTasks
from yottabench.client.raw import raw, raw_async
from yottabench.client.resources import Endpoints, Workers
from yottabench.client.tasks import Tasks


class RawEndpoints:
    """The methods of Endpoints, each giving a RawResponse."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.create = raw(endpoints.create)
        self.get = raw(endpoints.get)
        self.list = raw(endpoints.list)
        self.update = raw(endpoints.update)
        self.stop = raw(endpoints.stop)
        self.start = raw(endpoints.start)
        self.delete = raw(endpoints.delete)
        self.scale = raw(endpoints.scale)


class RawWorkers:
    """The methods of Workers, each giving a RawResponse."""

    def __init__(self, workers: Workers) -> None:
        self.list = raw(workers.list)
        self.logs = raw(workers.logs)


class RawTasks:
    """The methods of Tasks that are one operation, each giving a RawResponse."""

    def __init__(self, tasks: Tasks) -> None:
        self.submit = raw(tasks.submit)
        self.get = raw(tasks.get)
        self.list = raw(tasks.list)
        self.count = raw(tasks.count)


class AsyncRawEndpoints:
    """The methods of AsyncEndpoints, each giving a RawResponse."""

    def __init__(self, endpoints: AsyncEndpoints) -> None:
        self.create = raw_async(endpoints.create)
        self.get = raw_async(endpoints.get)
        self.list = raw_async(endpoints.list)
        self.update = raw_async(endpoints.update)
        self.stop = raw_async(endpoints.stop)
        self.start = raw_async(endpoints.start)
        self.delete = raw_async(endpoints.delete)
        self.scale = raw_async(endpoints.scale)


class AsyncRawWorkers:
    """The methods of AsyncWorkers, each giving a RawResponse."""

    def __init__(self, workers: AsyncWorkers) -> None:
        self.list = raw_async(workers.list)
        self.logs = raw_async(workers.logs)


class AsyncRawTasks:
    """The methods of AsyncTasks that are one operation, each giving a RawResponse."""

    def __init__(self, tasks: AsyncTasks) -> None:
        self.submit = raw_async(tasks.submit)
        self.get = raw_async(tasks.get)
        self.list = raw_async(tasks.list)
        self.count = raw_async(tasks.count)
