"""JSON lines without the json module, whose import costs more than the rest of the start."""

try:
    from _json import encode_basestring_ascii as quote, make_scanner

    class _Settings:
        strict = False
        object_hook = object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float
        memo = {}

    _scan = make_scanner(_Settings())

    def decode(line):
        """The value of one line, or None when it is not JSON."""
        try:
            return _scan(line.decode('utf-8', 'replace'), 0)[0]
        except (StopIteration, ValueError, RecursionError):
            return None

except ImportError:  # an interpreter without the accelerator
    import json

    quote = json.dumps

    def decode(line):
        try:
            return json.loads(line.decode('utf-8', 'replace'))
        except (ValueError, RecursionError):
            return None


def _text(value):
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return 'null'
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, int):
        return '%d' % value
    if isinstance(value, dict):
        return '{%s}' % ','.join(['%s:%s' % (quote(key), _text(each)) for key, each in value.items()])
    return '[%s]' % ','.join([_text(each) for each in value])


def encode(value):
    """Texts, integers, booleans, None, lists and dictionaries of them, as ASCII bytes."""
    return _text(value).encode()


class Lines:
    """Cuts a stream into lines of bounded size."""

    def __init__(self, limit):
        self.limit = limit
        self.parts = []
        self.size = 0

    def feed(self, data):
        """The lines that are complete now, or None when one is too long."""
        if b'\n' not in data:
            self.parts.append(data)
            self.size += len(data)
            return [] if self.size <= self.limit else None
        lines = (b''.join(self.parts) + data).split(b'\n')
        rest = lines.pop()
        self.parts = [rest]
        self.size = len(rest)
        return [line for line in lines if line]
