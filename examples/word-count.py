"""Counts the words of standard input: `echo 'a b a' | ./backend.ai run python examples/word-count.py`."""

import sys
from collections import Counter

words = Counter(word for line in sys.stdin for word in line.split())
for word, count in words.most_common(10):
    print(f"{count:6d} {word}")
