"""The part of `unittest` that the firmware's tests use, for MicroPython, which has none.

Names and meaning are CPython's. What is not here is not used: no mocks, no discovery, no skips
(a test that cannot run must not pass). Runs on the unix port and on a board.
"""

import gc
import sys


class TestCase:
    """Override setUp, tearDown; methods named test* are run in order of their names."""

    def __init__(self):
        self.failures = []  # (label of the subtest, exception)

    def setUp(self):
        pass

    def tearDown(self):
        pass

    def fail(self, message="failed"):
        raise AssertionError(message)

    def subTest(self, label=""):
        return _SubTest(self, label)

    def assertEqual(self, expected, actual):
        if not expected == actual:
            self.fail("%r != %r" % (expected, actual))

    def assertNotEqual(self, unwanted, actual):
        if unwanted == actual:
            self.fail("%r twice" % (actual,))

    def assertTrue(self, value):
        if not value:
            self.fail("%r is not true" % (value,))

    def assertFalse(self, value):
        if value:
            self.fail("%r is not false" % (value,))

    def assertIs(self, expected, actual):
        if expected is not actual:
            self.fail("%r is not %r" % (expected, actual))

    def assertIsNone(self, value):
        self.assertIs(None, value)

    def assertIn(self, member, container):
        if member not in container:
            self.fail("%r is not in %r" % (member, container))

    def assertNotIn(self, member, container):
        if member in container:
            self.fail("%r is in %r" % (member, container))

    def assertRaises(self, kind):
        return _Raises(kind)


class _SubTest:
    def __init__(self, case, label):
        self._case = case
        self._label = label

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None or not issubclass(kind, Exception):
            return False
        self._case.failures.append((self._label, error))
        return True


class _Raises:
    def __init__(self, kind):
        self._kind = kind
        self.exception = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None:
            raise AssertionError("%s was not raised" % self._kind.__name__)
        self.exception = error
        return issubclass(kind, self._kind)


def run(module):
    """Run every test of `module`, report failures; (passed, failed)."""
    passed = failed = 0
    for class_name in sorted(dir(module)):
        cases = getattr(module, class_name)
        if not (isinstance(cases, type) and issubclass(cases, TestCase)):
            continue
        for name in sorted(dir(cases)):
            if not name.startswith("test"):
                continue
            failures = _run_one(cases(), name)
            for label, error in failures:
                print("FAILED %s.%s.%s %s" % (module.__name__, class_name, name, label))
                sys.print_exception(error)
            if failures:
                failed += 1
            else:
                passed += 1
    return passed, failed


def _run_one(case, name):
    gc.collect()
    try:
        case.setUp()
        try:
            getattr(case, name)()
        finally:
            case.tearDown()
    except Exception as error:
        case.failures.append(("", error))
    return case.failures
