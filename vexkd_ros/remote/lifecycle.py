"""State of a running lifecycle node."""

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState

from vexkd_model.errors import UserError
from vexkd_ros.remote.session import Session

TRANSITION_S = 180.0  # to configure is to load a student and to warm it up


def get_state(session: Session, node: str) -> str:
    """Return unconfigured, inactive, active or finalized; UserError where the node has no lifecycle."""
    return session.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label


def change_state(session: Session, node: str, wanted: str) -> str:
    """Make a transition, such as configure; return the state after it. UserError where it is refused or fails."""
    before = get_state(session, node)
    service = f"{node}/get_available_transitions"
    answer = session.call(GetAvailableTransitions, service, GetAvailableTransitions.Request())
    number_of = {one.transition.label: one.transition.id for one in answer.available_transitions}
    if wanted not in number_of:
        possible = ", ".join(sorted(number_of)) or "no transition"
        raise UserError(f"{node}: is {before}, from where {wanted} does not lead on; it takes {possible}")
    request = ChangeState.Request(transition=Transition(id=number_of[wanted], label=wanted))
    if not session.call(ChangeState, f"{node}/change_state", request, TRANSITION_S).success:
        raise UserError(f"{node}: {wanted} failed, it is {get_state(session, node)}; its log and /diagnostics say why")
    return get_state(session, node)
