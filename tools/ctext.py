"""Just enough of C's syntax for tools/check-rules: comments, functions, their lengths and nesting.

It reads clean, preprocessor-light C as clang-format leaves it; it is no compiler.
"""
import re
from collections import namedtuple

Function = namedtuple('Function', 'name first_line lines nesting')

_SKIPPED = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
_DIRECTIVE = re.compile(r'^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', re.M)
_TOKEN = re.compile(r'[A-Za-z_]\w*|\d[\w.]*|[^\s\w]')


def _blank(match):
    return re.sub(r'[^\n]', ' ', match.group(0))


def blank_comments(text):
    """The text with comments, strings and characters blanked, each line in its place."""
    return _SKIPPED.sub(_blank, text)


def functions(text):
    """Every function definition of a C file."""
    clean = _DIRECTIVE.sub(_blank, blank_comments(text))
    tokens, line, end = [], 1, 0
    for match in _TOKEN.finditer(clean):
        line += clean.count('\n', end, match.start())
        end = match.start()
        tokens.append((match.group(0), line))
    found, start, at = [], 0, 0
    while at < len(tokens):
        word = tokens[at][0]
        if word == '{':
            close = _matching(tokens, at)
            if at > 0 and tokens[at - 1][0] == ')':
                found.append(_function(tokens, start, at, close))
                start = close + 1
            at = close
        elif word in ';}':
            start = at + 1
        at += 1
    return found


def _matching(tokens, at):
    """Index of the bracket that closes the one at `at`."""
    depth = 0
    while at < len(tokens):
        depth += (tokens[at][0] in '{([') - (tokens[at][0] in '})]')
        if depth == 0:
            return at
        at += 1
    return len(tokens) - 1


def _function(tokens, start, opening, close):
    names = [tokens[i][0] for i in range(start, opening) if tokens[i + 1][0] == '(' and tokens[i][0] != '__attribute__']
    first_line, last_line = tokens[start][1], tokens[close][1]
    nesting = _Nesting(tokens, opening, close)
    return Function(names[0] if names else '?', first_line, last_line - first_line + 1, nesting.deepest)


class _Nesting:
    """Deepest level of a statement; the function's body is level 1, and an else-if chain counts once."""

    def __init__(self, tokens, opening, close):
        self.tokens, self.end, self.deepest = tokens, close, 0
        self._block(opening, 1)

    def _word(self, at):
        return self.tokens[at][0] if at < self.end else ''

    def _block(self, at, level):
        close = min(_matching(self.tokens, at), self.end)
        at += 1
        while at < close:
            at = self._statement(at, level)
        return close + 1

    def _statement(self, at, level):
        self.deepest = max(self.deepest, level)
        word = self._word(at)
        if word == '{':
            return self._block(at, level + 1)
        if word in ('for', 'while', 'switch') and self._word(at + 1) == '(':
            return self._body(_matching(self.tokens, at + 1) + 1, level + 1)
        if word == 'if':
            return self._if(at, level)
        if word == 'do':
            at = self._body(at + 1, level + 1)
        if word in ('case', 'default'):
            while self._word(at) not in (':', ''):
                at += 1
            return at + 1
        return self._expression(at)

    def _if(self, at, level):
        at = self._body(_matching(self.tokens, at + 1) + 1, level + 1)
        if self._word(at) != 'else':
            return at
        if self._word(at + 1) == 'if':
            return self._if(at + 1, level)
        return self._body(at + 1, level + 1)

    def _body(self, at, level):
        return self._block(at, level) if self._word(at) == '{' else self._statement(at, level)

    def _expression(self, at):
        while at < self.end and self._word(at) != ';':
            if self._word(at) == '}':
                return at
            if self._word(at) in '({[':
                at = _matching(self.tokens, at)
            at += 1
        return at + 1
