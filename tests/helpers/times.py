"""Units and forms in which tests write times."""

import datetime


def _date(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime(
        "%Y-%m-%dT%H:%M:%S.%f"
    )


WRITTEN = {
    "seconds": lambda n: 1_600_000_000 + 7 * n,
    "seconds, one apart": lambda n: 1_600_000_000 + n,
    "fractions of a second": lambda n: f"{1_600_000_000 + n / 1000:.3f}",
    "milliseconds": lambda n: 1_600_000_000_000 + n,
    "microseconds": lambda n: 1_600_000_000_000_000 + n,
    "nanoseconds": lambda n: 1_600_000_000_000_000_000 + n,
    "dates": lambda n: (datetime.date(2020, 9, 13) + datetime.timedelta(n)).isoformat(),
    "dates and times": lambda n: _date(1_600_000_000 + n),
    "before 1970": lambda n: -1_600_000_000 + n,
    "scientific": lambda n: f"1.6{n:09d}e9",
    "digits that sort otherwise as text": lambda n: 99_990 + n,
}
