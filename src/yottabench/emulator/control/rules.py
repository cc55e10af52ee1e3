"""Rules of faults as they are sent and shown."""

import re
from collections.abc import Collection
from typing import Any

from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.faults import ANY, KINDS, Faults, Rule
from yottabench.emulator.fields import Fields, invalid, shown
from yottabench.emulator.limits import FAULT_LATENCY_MAX_MS, FAULT_RULES_MAX, INT32_MAX

FIELDS = frozenset(
    [
        "kind",
        "operation",
        "endpoint",
        "worker",
        "receiver",
        "latencyMs",
        "status",
        "code",
        "retryAfterS",
        "probability",
        "count",
        "seed",
        "takesEffect",
    ]
)
_TARGETS = ("operation", "worker", "receiver")
_ID = re.compile(r"[0-9]{1,19}")
_ID_OR_ANY = re.compile(r"[0-9]{1,19}|\*")
_RECEIVER = re.compile(r"[^\s/@]+:[0-9]{1,5}|\*")
_TARGET_HINT = "Send operation (an operationId), worker (the id of a worker or an endpoint) or receiver (host:port)."
# Kinds of which only the answer is lost or spoilt, unless the rule says otherwise.
_TAKING_EFFECT = frozenset({"reset", "drop", "garbage"})


def add_rule(faults: Faults, sent: dict[str, Any], namespace: str | None, operations: Collection[str]) -> Rule:
    """Put the rule that was sent in force. Raises ApiError (10001) that names the first field that breaks its rule."""
    fields = Fields(sent)
    fields.only(FIELDS)
    kind = fields.value("kind", f"Choose one of {', '.join(KINDS)}.")
    if kind not in KINDS:
        raise invalid("kind", f"must not be {shown(kind)}", f"Choose one of {', '.join(KINDS)}.")
    values: dict[str, Any] = {"kind": kind, **_target(fields, operations), **_what(fields, kind), **_when(fields)}
    if len(faults.rules(None)) >= FAULT_RULES_MAX:
        raise ApiError(Code.WRONG_STATE, f"There are {FAULT_RULES_MAX} rules already. Lift some: DELETE this path.")
    return faults.add(namespace, values)


def _target(fields: Fields, operations: Collection[str]) -> dict[str, str]:
    sent = [name for name in _TARGETS if fields.has(name)]
    if len(sent) != 1:
        raise invalid(
            "The rule", f"must say where it strikes once, but says {' and '.join(sent) or 'nothing'}", _TARGET_HINT
        )
    if fields.has("endpoint") and sent != ["operation"]:
        raise invalid("endpoint", f"does not go with {sent[0]}", "For its workers, send its id as worker.")
    patterns = {"operation": None, "worker": _ID_OR_ANY, "receiver": _RECEIVER}
    found = {sent[0]: fields.text(sent[0], 300, _TARGET_HINT, pattern=patterns[sent[0]])}
    if found.get("operation", ANY) not in {ANY, *operations}:
        choices = ", ".join(sorted(operations))
        raise invalid("operation", f"must not be {shown(found['operation'])}", f"Choose * or one of {choices}.")
    if fields.has("endpoint"):
        found["endpoint"] = fields.text("endpoint", 19, "Send the id of an endpoint.", pattern=_ID)
    if "receiver" in found:
        found["receiver"] = found["receiver"].lower()
    return found


def _what(fields: Fields, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {"takes_effect": kind in _TAKING_EFFECT}
    if kind == "latency":
        hint = "Say how many milliseconds it takes longer."
        found["latency_ms"] = fields.integer("latencyMs", 0, FAULT_LATENCY_MAX_MS, hint)
    for name, only in (("latencyMs", "latency"), ("status", "error"), ("code", "error"), ("retryAfterS", "error")):
        if fields.has(name) and kind != only:
            raise invalid(name, f"does not go with kind {kind}", f"Leave it out, or choose kind {only}.")
    if fields.has("status"):
        found["status"] = fields.integer("status", 400, 599, "Send an HTTP status of an error.")
    if fields.has("code"):
        found["code"] = fields.integer("code", 1, INT32_MAX, "Send the code of the envelope.")
    if fields.has("retryAfterS"):
        found["retry_after_s"] = fields.integer("retryAfterS", 0, INT32_MAX, "Send whole seconds.")
    if fields.has("takesEffect"):
        takes_effect = fields.value("takesEffect", "Send true or false.")
        if not isinstance(takes_effect, bool):
            raise invalid("takesEffect", f"must not be {shown(takes_effect)}", "Send true or false.")
        if kind == "latency":
            raise invalid("takesEffect", "does not go with kind latency", "What is late always takes effect.")
        found["takes_effect"] = takes_effect
    return found


def _when(fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if fields.has("probability"):
        hint = "Send a number from 0 to 1."
        probability = fields.value("probability", hint)
        if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise invalid("probability", f"must not be {shown(probability)}", hint)
        found["probability"] = float(probability)
    if fields.has("count"):
        found["count"] = fields.integer("count", 1, INT32_MAX, "Say how many times it strikes, or leave it out.")
    if fields.has("seed"):
        found["seed"] = fields.integer("seed", 0, INT32_MAX, "Send a whole number.")
    return found


def rule_view(rule: Rule) -> dict[str, Any]:
    """A rule with what became of it: `matched` requests were meant, `fired` were struck."""
    shown_fields: dict[str, Any] = {
        "id": rule.id,
        "kind": rule.kind,
        "operation": rule.operation,
        "endpoint": rule.endpoint,
        "worker": rule.worker,
        "receiver": rule.receiver,
        "latencyMs": rule.latency_ms if rule.kind == "latency" else None,
        "status": rule.status if rule.kind == "error" else None,
        "code": rule.code,
        "retryAfterS": rule.retry_after_s,
        "takesEffect": rule.takes_effect if rule.kind != "latency" else None,
        "count": rule.count,
    }
    return {
        **{name: value for name, value in shown_fields.items() if value is not None},
        "probability": rule.probability,
        "seed": rule.seed,
        "matched": rule.matched,
        "fired": rule.fired,
    }
