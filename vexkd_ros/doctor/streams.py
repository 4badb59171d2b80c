"""Check that a topic comes, as what it should be, evenly, and with stamps that mean something."""

import numpy as np

from vexkd_model.findings import FAIL, OK, WARN, Finding
from vexkd_ros.doctor.observation import Heard, Observation
from vexkd_ros.health.qos_match import QosOffer, QosRequest, qos_mismatch, why_silent

GAPS = 3.0  # a gap this many times as long as the median one has lost messages in it
BRIEF_S = 1.0  # a shorter observation, as of a bag of one keyframe, tells no rate
AGE_S = 1.0  # a stamp further from now than any driver's and network's delay


def check_stream(seen: Observation, topic: str, msgtype: str, reliable: bool) -> list[Finding]:
    """Check one sensor's topic; the first finding is a failure where nothing of it can be used."""
    offers, request = seen.offers.get(topic, []), QosRequest(msgtype, reliable)
    heard = seen.heard.get(topic)
    if heard is None or not heard.stamps or heard.msgtype != msgtype:
        if topic in seen.types and not offers:  # a bag without qualities of service
            offers = [QosOffer(seen.source, seen.types[topic], True, False)]
        others = [other for other in seen.of_type(msgtype) if other != topic]
        why = why_silent(topic, offers, request, others)
        if not seen.live and any(not qos_mismatch(topic, offer, request) for offer in offers):
            why = f"no message in the first {seen.seconds:.0f} s of {seen.source}: record it, or give more --seconds"
        return [Finding(FAIL, topic, why)]
    findings = [_rate(seen, heard), *_stamps(heard), *_age(seen, heard), *_frame(heard)]
    if len(offers) > 1:
        names = ", ".join(offer.node for offer in offers)
        findings.append(Finding(WARN, topic, f"{len(offers)} publishers, {names}: stop or remap all but one"))
    return findings + [
        Finding(FAIL, topic, problem) for offer in offers if (problem := qos_mismatch(topic, offer, request))
    ]


def _rate(seen: Observation, heard: Heard) -> Finding:
    """Check the rate by the stamps, so that a slow replay counts as what it was recorded as."""
    count, kind = len(heard.stamps), heard.msgtype.rsplit("/", 1)[-1]
    gaps = np.diff(np.unique(heard.stamps)) * 1e-9
    if not len(gaps) and seen.seconds < BRIEF_S:
        return Finding(OK, heard.topic, f"{kind}, one message in {seen.seconds:.1f} s")
    if not len(gaps):
        return Finding(WARN, heard.topic, f"{kind}, one message: is the sensor running?")
    median, longest = float(np.median(gaps)), float(gaps.max())
    text = f"{kind}, {count} messages, {1 / median:.1f} Hz by their stamps, longest gap {longest:.2f} s"
    if longest > GAPS * median:
        lost = round(float((gaps / median - 1).clip(0).sum()))
        return Finding(
            WARN,
            heard.topic,
            f"{text}, about {lost} lost: look at the driver's and the network's load; "
            "large messages need config/dds/fastdds.xml, and reliable publishers",
        )
    return Finding(OK, heard.topic, text)


def _stamps(heard: Heard) -> list[Finding]:
    if not any(heard.stamps):
        return [Finding(FAIL, heard.topic, "every stamp is 0: set header.stamp in the driver")]
    back = int((np.diff(heard.stamps) <= 0).sum())
    if not back:
        return []
    return [
        Finding(
            WARN,
            heard.topic,
            f"{back} of {len(heard.stamps)} stamps do not advance: two publishers, a bag "
            "that loops, or a bad clock; older sweeps and images are dropped each time",
        )
    ]


def _age(seen: Observation, heard: Heard) -> list[Finding]:
    """Check the age of stamps; recorded or replayed with /clock, it is that of the recording."""
    if not seen.live or "/clock" in seen.types or not any(heard.stamps):
        return []
    age = float(np.median(np.array(heard.arrivals) - np.array(heard.stamps) * 1e-9))
    if abs(age) <= AGE_S:
        return [Finding(OK, heard.topic, f"stamps are {age * 1e3:.0f} ms old when they arrive")]
    how = f"{abs(age):.1f} s {'behind' if age > 0 else 'ahead of'} this machine's clock"
    return [
        Finding(
            WARN,
            heard.topic,
            f"stamps are {how}: synchronise the clocks (PTP, NTP), or replay with --clock and use_sim_time:=true",
        )
    ]


def _frame(heard: Heard) -> list[Finding]:
    if "" in heard.frames:
        return [Finding(FAIL, heard.topic, "messages have no frame_id: set it in the driver")]
    if len(heard.frames) > 1:
        names = ", ".join(sorted(heard.frames))
        return [Finding(WARN, heard.topic, f"frame_id changes between {names}: stop one of two publishers")]
    return []
