"""From a payload to a draft: checked, copied, encoded."""

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.visibility import checked_visibility
from stigmergy.blackboard.errors import BadType, DefinitionError, InvalidPayload
from stigmergy.blackboard.events import Priority, Visibility
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import ArtifactType, check_text

PRIORITIES: frozenset[str] = frozenset(get_args(Priority))


def draft_of(
    types: TypeTable, payload: BaseModel, *, key: str | None = None, tags: Sequence[str] = (),
    priority: Priority | None = None, visibility: Visibility | None = None, review_by: str = "", run: str = "",
    most: int | None = None,
) -> Draft:  # fmt: skip
    """A payload as it will be on the board.

    Priority, phase, tags and work ids are taken from fields of these names where the model has them and the
    publisher does not say otherwise.

    Raises:
        BadType, TypeClash, NotRoundTrippable, InvalidPayload, PayloadTooLarge: see `ArtifactType.encode` and
            `TypeTable.add`.
        DefinitionError: an option has no sensible value.
    """
    model = type(payload)
    kind = types.get(model.__name__)
    if kind is None or kind.model is not model:
        if isinstance(payload, type):
            name = payload.__name__
            raise BadType(f"the class {name} itself is no artifact. Give an instance: {name}(…).")
        if isinstance(payload, Artifact):
            raise BadType(f"{payload.ref} is on a board already. Give its payload to publish that again.")
        kind = types.add(model)
    copy, data = kind.encode(payload, most)
    draft = Draft(copy, data, kind.name, kind.version, kind.schema, run, key, [], priority, visibility, review_by)
    if tags != ():
        if not isinstance(tags, str | Iterable):
            raise DefinitionError(f"tags={tags!r} are no tags. Give a list of texts.")
        draft.tags = [tags] if isinstance(tags, str) else list(tags)
    if visibility is not None:
        checked_visibility(visibility, "visibility=")
    if kind.has_any:
        _take_fields(draft, kind, copy)
    if key is not None:
        check_text("key", key)
    for tag in draft.tags:
        check_text("tag", tag)
    if run:
        check_text("run", run)
    if review_by:
        check_text("review_by", review_by)
    if priority is not None and (not isinstance(priority, str) or priority not in PRIORITIES):
        raise DefinitionError(f"priority {priority!r} is not one of low, medium, high, critical.")
    return draft


def _take_fields(draft: Draft, kind: ArtifactType, payload: Any) -> None:
    if kind.has_priority and draft.priority is None and payload.priority in PRIORITIES:
        draft.priority = payload.priority
    if kind.has_phase and isinstance(payload.phase, str):
        draft.phase = payload.phase
    if kind.has_tags and isinstance(payload.tags, list | tuple | set | frozenset):
        tags = sorted(payload.tags, key=str) if isinstance(payload.tags, set | frozenset) else payload.tags
        draft.tags += [tag for tag in tags if isinstance(tag, str) and tag not in draft.tags]
    if kind.has_work and isinstance(payload.work_id, str):
        check_text("work id", payload.work_id)
        if not payload.work_id:
            raise InvalidPayload(f"{kind.name}.work_id is empty. Leave it out, or choose a name.")
        draft.work = payload.work_id
    if kind.has_parent and isinstance(payload.parent_work_id, str):
        draft.parent_work = payload.parent_work_id
    if kind.has_blocking and payload.blocking_work_ids is not None:
        given = payload.blocking_work_ids
        if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(w, str) for w in given):
            text = f"{kind.name}.blocking_work_ids is {given!r:.60}, so nobody would wait for it"
            raise InvalidPayload(f"{text}. Give a list of work ids, which are texts.")
        draft.blocking = sorted(given) if isinstance(given, set | frozenset) else list(given)
        for work in draft.blocking:
            check_text("work id", work)
