"""The simulated worker: a small HTTP server that runs in a process of its own and imports next to nothing.

**Images** (a registry before and a tag or digest behind the name are ignored; any other image runs as `sim/echo`):

- `sim/echo` answers 200 with the very bytes it got.
- `sim/sleep` takes a log-normal time (SIM_MEAN_MS, default 50; SIM_CV, default 0.5) and answers `{"slept_ms": ...}`.
- `sim/llm` answers like an OpenAI server: POST /v1/chat/completions and /v1/completions, with `stream` or without,
  and GET /v1/models. It takes SIM_TTFT_MS (50) + prompt tokens * SIM_PREFILL_MS_PER_TOKEN (0.1) + completion tokens
  * SIM_TPOT_MS (20), all times one log-normal factor of mean 1 (SIM_CV, here 0.1). A prompt token is 4 characters of
  text, and each message costs 4 more. The completion has exactly `max_completion_tokens` or `max_tokens` tokens, else
  a drawn number (SIM_COMPLETION_TOKENS, default 128 in the mean). SIM_MODEL (sim-llm) names the model.
- `sim/flaky` echoes, but a share of the requests fails (SIM_FAIL_RATE), hangs (SIM_HANG_RATE), has its connection
  closed (SIM_CLOSE_RATE) or ends the process (SIM_EXIT_RATE); all 0 unless set.

For every image: SIM_TIME_SCALE (1) multiplies the times above; SIM_START_MS (0) passes before it listens;
SIM_START_EXIT makes it exit with that code instead of listening. GET /health answers 200 and is not an execution.
Settings are the endpoint's environmentVars; a value that is no number keeps the worker from starting and says why.

**What a task can ask for**, of every image, when its input is an object with a `simulate` object:
`service_ms` (the time it takes, literally), `status`, `error` (text; status 500 unless given), `output` (any JSON),
`output_bytes` (an answer of exactly so many bytes), `log` (a line for the worker's log), and one of `hang` (true: no
answer ever), `close` (true: the connection closes without an answer) and `exit` (the process ends with that code while
it holds the request). An unknown or wrong member is answered with 400. Without any of these, `sim/echo` echoes.

**Determinism.** What is drawn depends on the seed and the X-Task-Id header alone (without one, on how many such
requests came before); what `sim/flaky` draws depends on X-Task-Attempt too, so that a retry may do better.

**The execution log.** One line when it listens, and one per request when its execution ends:
`task=<X-Task-Id> attempt=<X-Task-Attempt> path=<path> status=<status> start_ms=<epoch ms> end_ms=<epoch ms>`,
written before the answer is sent; `-` stands for a missing header, status 0 for an execution that sent no answer. The
answer carries the same times in X-Worker-Start-Ms and X-Worker-End-Ms (the latter as a trailer of a stream).

The modules import each other relatively and nothing else of yottabench: the process finds this package alone.
"""
