"""A clock that other work on the machine does not turn."""

import resource


def processor_time() -> float:
    """Seconds of processor time so far, of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
