"""The pytest plugin in a student's repository: what it collects, and what a failure says.

It does nothing unless requested.
"""

import subprocess
import sys

import pytest

pytest_plugins = "pytester"

LAYERS = """
import numpy as np
import minigd as gd

class Double(gd.Layer):
    def forward(self, x, train=False):
        return 2 * x
    def backward(self, dy):
        return 2 * dy

class Backwards(Double):
    def backward(self, dy):
        return -2 * dy

class Broken(Double):
    def backward(self, dy):
        raise RuntimeError("backward is not written yet")

class Absolute(gd.Loss):
    def per_example(self, z, y):
        return np.abs(z - y).mean(axis=1)
    def gradient(self, z, y):
        return np.sign(z - y) / z.shape[1]
"""


@pytest.fixture(params=["minigd.checks.pytest_plugin", "minigd_pytest"])
def run(request, pytester):
    """Return how to run pytest with the plugin as pytest finds it, or loaded by hand."""

    def run(*arguments, option="minigd_layers = mylayer.py", **files):
        pytester.makeini(f"[pytest]\n{option}\n")
        pytester.makepyfile(**{"mylayer": LAYERS, **files})
        return pytester.runpytest("-p", request.param, "-p", "no:cacheprovider", *arguments)

    return run


def test_each_layer_and_loss_of_the_file_is_a_test(run):
    result = run("-v")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        ["*mylayer.py::Double PASSED*", "*mylayer.py::Backwards FAILED*", "*::Absolute PASSED*"]
    )


@pytest.mark.few(1)
def test_a_failure_is_the_message_with_its_diagnosis_and_no_traceback(run):
    result = run("mylayer.py::Backwards")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "x: backward disagrees with the complex step. Worst at [" in text
    assert "It looks like: the sign is wrong" in text
    assert "Traceback" not in text
    assert "gradcheck.py" not in text


@pytest.mark.few(1)
def test_another_error_shows_where_it_came_from(run):
    result = run("mylayer.py::Broken")
    assert "check.py" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*mylayer.py:*in backward*", "*backward is not written yet*"])


def test_what_may_be_meant_is_a_warning(run):
    table = """
    import numpy as np
    import minigd as gd
    class Table(gd.Layer):
        def build(self, n_in):
            self.table = np.linspace(1, 2, n_in).astype("float32")
            return n_in
        def forward(self, x, train=False):
            return x * self.table
        def backward(self, dy):
            return dy * self.table
    """
    result = run("-W", "default", mylayer=table)
    # pytest may warn, too, of a minigd that is imported already.
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*LayerWarning: Table: it uses self.table, an array, which*"])
    assert str(result.stdout).count("LayerWarning: ") == 1


def test_what_training_refuses_is_the_message_and_no_traceback(run):
    wide = """
    import numpy as np
    import minigd as gd
    class Wide(gd.Layer):
        def forward(self, x, train=False):
            return x * np.sqrt(2)
        def backward(self, dy):
            return (dy * np.sqrt(2)).astype(dy.dtype)
    """
    test = """
    import numpy as np
    from mylayer import Wide
    def test_wide(check_layer):
        check_layer(Wide(), np.ones((3, 2)))
    """
    option = "pythonpath = .\nminigd_layers = mylayer.py"
    result = run("mylayer.py", "test_it.py", option=option, mylayer=wide, test_it=test)
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert "wide1: forward returned an array of shape" in text
    for hidden in ("Traceback", "gradcheck.py", "training.py", "model.py"):
        assert hidden not in text


def test_a_class_that_can_not_be_made_asks_for_an_example_and_no_more(run):
    needs = """
    import minigd as gd
    class Needs(gd.Tanh):
        def __init__(self, p):
            self.p = p
    """
    result = run(mylayer=needs)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*TypeError: *add a list of examples*"])
    assert "check.py" not in result.stdout.str()


@pytest.mark.few(1)
def test_a_file_outside_testpaths_is_visited(run):
    option = "testpaths = tests\nminigd_layers = mylayer.py"
    result = run(option=option, **{"tests/test_one": "def test_one(): pass"})
    result.assert_outcomes(passed=3, failed=2)


@pytest.mark.few(1)
def test_a_file_within_testpaths_is_visited_once(run):
    option = "testpaths = .\nminigd_layers = mylayer.py"
    run(option=option).assert_outcomes(passed=2, failed=2)


def test_a_path_on_the_command_line_is_all_that_is_visited(run):
    result = run("test_one.py", test_one="def test_one(): pass")
    result.assert_outcomes(passed=1)


@pytest.mark.few(1)
def test_examples_have_tests_of_their_own(run):
    power = """
    import minigd as gd
    class Power(gd.Layer):
        def __init__(self, p):
            self.p = p
        def forward(self, x, train=False):
            if train:
                self.keep(x)
            return x**self.p
        def backward(self, dy):
            (x,) = self.kept()
            return dy * self.p * x ** (self.p - 1)
    examples = [Power(2), Power(3)]
    """
    result = run("-v", mylayer=power)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*mylayer.py::Power(p=2) PASSED*", "*::Power(p=3) PASSED*"])


@pytest.mark.each
@pytest.mark.parametrize(
    ("mylayer", "says"),
    [
        ("x = 1", "*nothing to check in *mylayer.py*"),
        ("import no_such_module", "*mylayer.py can't be run: ModuleNotFoundError*"),
    ],
)
def test_a_file_that_can_not_be_checked_is_an_error(run, mylayer, says):
    result = run(mylayer=mylayer)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([says])


def test_a_file_that_is_not_there_is_a_misuse(run):
    result = run(option="minigd_layers = no_such_file.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*minigd_layers names *no_such_file.py, but there is no such file"]
    )


def test_the_fixture_checks_a_layer(run):
    test = """
    import numpy as np
    from mylayer import Backwards, Double
    def test_right(check_layer):
        assert check_layer(Double(), np.ones((3, 2)))["x"] < 1e-10
    def test_wrong(check_layer):
        check_layer(Backwards(), np.ones((3, 2)))
    """
    result = run("test_it.py", option="pythonpath = .", test_it=test)
    result.assert_outcomes(passed=1, failed=1)
    assert "It looks like: the sign is wrong" in result.stdout.str()
    assert "gradcheck.py" not in result.stdout.str()


def test_it_collects_nothing_where_nobody_asks(run):
    result = run(option="addopts =", test_one="def test_one(): pass")
    result.assert_outcomes(passed=1)


def test_it_imports_nothing_where_nobody_asks():
    code = "import minigd_pytest, sys; print({'minigd', 'numpy'} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert loaded.stdout == "set()\n"
