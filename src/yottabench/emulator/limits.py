"""Every limit of the emulator, with its name and its reason."""

BODY_MAX_BYTES = 10_000_000  # a submit with a page image fits; the largest body of comparable services
OUTPUT_MAX_BYTES = 10_000_000  # as much as may go in may come out
JSON_MAX_DEPTH = 100  # real payloads stay under 20; parsers of workers and clients recurse, and break near 1,000
HEADER_MAX_COUNT = 100  # of a request to us; what common servers allow
HEADER_MAX_BYTES = 64 * 1024  # whole header block; uvicorn's own default

# Of fields: those of openapi/serverless.yaml, written down a second time (two readings check each other).
NAME_MAX_CHARS = 20  # documented
IMAGE_MAX_CHARS = 255  # the vendor's generated reference
RESOURCES_MAX = 64
GPU_COUNT_MAX = 1024
VARIABLES_MAX = 1000
VARIABLE_KEY_MAX_CHARS = 255
VARIABLE_VALUE_MAX_CHARS = 32_768
COMMAND_MAX_CHARS = 8_192
VOLUME_MIN_GB = 20  # documented
VOLUME_MAX_GB = 1_048_576
MIN_SINGLE_CARD_MAX = 1536  # GB or vCPU; the vendor's generated reference
WORKERS_MAX = 1000  # per endpoint: one worker is one process here
TASK_ID_MAX_CHARS = 255  # documented
PROCESS_URI_MAX_CHARS = 255  # documented
WEBHOOK_MAX_CHARS = 512  # documented
WEBHOOK_AUTH_KEY_MAX_CHARS = 255  # documented
TASK_HEADERS_MAX = 64  # they share the worker's header block with ours
TASK_HEADER_NAME_MAX_CHARS = 128
TASK_HEADER_VALUE_MAX_CHARS = 8_192
INT32_MAX = 2**31 - 1  # integers without a documented maximum
INT64_MAX = 2**63 - 1  # "long" fields; SQLite and PostgreSQL hold no more

TASK_PAGE_MAX = 100  # a page answers in one read of the store
LOG_PAGE_MAX = 1000  # documented

READY_WINDOW_TASKS = 10_000  # queued tasks held in memory per endpoint; the rest waits in the store
READY_INPUT_MAX_BYTES = 16 * 1024  # a larger input is read back from the store when its turn comes
BATCH_FULL_COMMANDS = 64  # one commit begins with these at once: as many as a statement has rows at most
BATCH_GATHER_S = 0.003  # a commit with fewer waits for more of them no longer than this
ANSWERS_PER_TURN = 8  # of one commit, in one turn of the loop: what else comes in waits no longer than for these
BATCH_MAX_COMMANDS = 2_000  # one commit: more would make the first of them wait for the last
ERROR_TEXT_MAX_CHARS = 4_096  # what is kept of a worker's error answer
DELIVERIES_PER_DESTINATION = 16  # webhooks in flight to one host and port: a slow receiver holds no more than these
DELIVERY_WINDOW = 256  # due deliveries to one host and port held in memory; the rest waits in the store
IDLE_DESTINATIONS_MAX = 256  # receivers without a delivery whose connections are kept
DELIVERY_ANSWER_MAX_BYTES = 64 * 1024  # of a receiver's answer; only its status counts
LOG_BYTES_PER_WORKER = 100 * 1024 * 1024
RETENTION_MS = 7 * 24 * 3600 * 1000  # logs, and what is left of gone workers
READY_WINDOW_BYTES = 16 * 1024 * 1024  # of inputs held in that window; later ones are read back from the store
STORE_RETRY_MS = 500  # until a change that the store refused (a full disk, say) is tried again
HEADER_DEADLINE_S = 10  # from the first byte (or the connect) to the end of the header block
BODY_DEADLINE_S = 60  # from there to the end of the body: 10 MB over a slow line

# Of the control surface.
CONTROL_BODY_MAX_BYTES = 64 * 1024  # rules and numbers
SNAPSHOT_MAX_TASKS = 100_000  # it is made in memory; more is better copied as a data folder
SNAPSHOT_MAX_BYTES = 256 * 1024 * 1024  # of one that is sent
DELIVERY_PAGE_MAX = 1000  # a page answers in one read of the store
FAULT_RULES_MAX = 1000  # each request asks all of them
FAULT_LATENCY_MAX_MS = 24 * 3600 * 1000
ADVANCE_MAX_S = 366 * 24 * 3600  # nothing is due later, and every sweep of retention on the way is made
SETTLE_TIMEOUT_S = 60.0  # of real time, at each step of an advance: longer than any send that is waited for
SWEEP_MIN_MS = 60 * 1000  # between two looks for what retention lets go: a 24th of it, but within these
SWEEP_MAX_MS = 6 * 3600 * 1000
SWEEP_PORTION = 500  # tasks per commit: others wait no longer than for this
