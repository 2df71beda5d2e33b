"""`minigd check`: what it finds in a file, what it says about each class, and its exit codes.

Files are written here as a student would write them.
"""

import textwrap
import warnings

import pytest
from oracles import students

import minigd as gd
from minigd.checks.user_file import check_file
from minigd.cli.main import main

HEAD = "import numpy as np\nimport minigd as gd\n"
DOUBLE = """
class Double(gd.Layer):
    def forward(self, x, train=False):
        return 2 * x
    def backward(self, dy):
        return 2 * dy
"""
POWER = """
class Power(gd.Layer):
    def __init__(self, p):
        self.p = p
    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return x ** self.p
    def backward(self, dy):
        (x,) = self.kept()
        return dy * self.p * x ** (self.p - 1)
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="mylayer.py"):
        path = tmp_path / name
        path.write_text(HEAD + textwrap.dedent(text), encoding="utf-8")
        return str(path)

    return write


def verdicts(path):
    return {verdict.name: verdict for verdict in check_file(path)}


def test_right_layers_are_ok(write, capsys):
    path = write(DOUBLE)
    assert main(["check", path]) == 0
    assert capsys.readouterr().out == "Double: ok\n"


def test_a_wrong_one_is_told_by_its_diagnosis(write, capsys):
    wrong = DOUBLE + "class Wrong(Double):\n    def backward(self, dy):\n        return -2 * dy\n"
    assert main(["check", write(wrong)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["Double: ok", "Wrong: wrong. It looks like: the sign is wrong"]


def test_without_a_diagnosis_the_message_is_the_line(write):
    text = DOUBLE + "class Off(Double):\n    def backward(self, dy):\n        return np.sin(dy)\n"
    said = str(verdicts(write(text))["Off"])
    assert said.startswith("Off: wrong. x: backward disagrees with the complex step. Worst at [")
    assert "\n" not in said


def test_another_error_is_told_with_its_type(write):
    text = DOUBLE + "class Broken(Double):\n    def backward(self, dy):\n        return dy[:, 9]\n"
    assert str(verdicts(write(text))["Broken"]).startswith("Broken: wrong. IndexError: index 9")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "nothing to check in"),
        ("def f(:\n", "can't be run: SyntaxError"),
        ("1 / 0\n", "can't be run: ZeroDivisionError"),
        ("examples = [3]\n", "must be a list of layers and losses, such as [MyLayer(3)], not [3]"),
        (DOUBLE + "examples = Double\n", "must be a list of layers and losses"),
    ],
)
def test_a_file_with_nothing_to_check_exits_with_2(write, text, says, capsys):
    assert main(["check", write(text)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("path", ["no_such_file.py", "."])
def test_a_file_that_is_not_there_exits_with_2(tmp_path, path, capsys):
    assert main(["check", str(tmp_path / path)]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_a_file_that_is_no_python_exits_with_2(write, capsys):
    assert main(["check", write(DOUBLE, "mylayer.txt")]) == 2
    assert "its name must end in .py" in capsys.readouterr().err


def test_a_class_that_needs_arguments_asks_for_an_example(write, capsys):
    assert main(["check", write(POWER)]) == 2
    said = capsys.readouterr().out
    assert "Power: not checked. TypeError: " in said
    assert "examples = [Power(...)]" in said


def test_an_error_of_the_layers_own_is_told_with_its_line(write):
    text = DOUBLE + "class Typo(Double):\n    def backward(self, dy):\n        return 2 * dx\n"
    said = str(verdicts(write(text))["Typo"])
    assert said == "Typo: wrong. NameError: name 'dx' is not defined (mylayer.py, line 11)"


TABLE = """
class Table(gd.Layer):
    def build(self, n_in):
        self.table = np.linspace(1, 2, n_in).astype("float32")
        return n_in
    def forward(self, x, train=False):
        return x * self.table
    def backward(self, dy):
        return dy * self.table
"""


def test_what_may_be_meant_is_a_note_and_no_failure(write, capsys):
    assert main(["check", write(TABLE)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Table: ok. Note: it uses self.table, an array, which build does not")
    assert said.count("Note") == 1


def test_a_layer_is_checked_as_training_runs_it(write, capsys):
    text = """
    import math
    class Gelu(gd.Layer):
        def forward(self, x, train=False):
            phi = 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
            if train:
                self.keep(x, phi)
            return x * phi
        def backward(self, dy):
            x, phi = self.kept()
            return dy * (phi + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))
    class Residual(gd.Layer):
        def __init__(self):
            self.inner = gd.Dense(6)
        def forward(self, x, train=False):
            return x + self.inner.forward(x, train)
        def backward(self, dy):
            return dy + self.inner.backward(dy)
    """
    assert main(["check", write(text)]) == 1
    gelu, residual = capsys.readouterr().out.splitlines()
    assert "dtype float32: return y.astype(x.dtype)" in gelu
    assert residual.startswith("Residual: wrong. Residual holds another layer, self.inner = Dense")


SLIPS = {
    "InInit": (
        "def __init__(self):\n        self.add_param('b', (3,))",
        "InInit: not checked. TypeError: InInit declares 'b' too early: call add_param and "
        "add_buffer in build(self, n_in), where the width is known, not in __init__",
    ),
    "NoTrain": (
        "def forward(self, x):\n        return 2 * x",
        "NoTrain: wrong. NoTrain must define forward(self, x, train=False): too many positional "
        "arguments",
    ),
    "NoReturn": (
        "def build(self, n_in):\n        pass",
        "NoReturn: wrong. TypeError: NoReturn.build(6) returned None; it must return the width of "
        "the output, a positive int, or raise ValueError for an unsupported width",
    ),
    "Flattens": (
        "def forward(self, x, train=False):\n        memoryview(x).cast('B')\n        return 2 * x",
        "Flattens: wrong. flattens1: forward fails for an array in column order, with TypeError",
    ),
    "Overwrites": (
        "def forward(self, x, train=False):\n        if train:\n            self.keep(x)\n"
        "        return x * x\n    def backward(self, dy):\n        (x,) = self.kept()\n"
        "        x *= 2 * dy\n        return x",
        "Overwrites: wrong. It looks like: overwrites1: backward writes over x, which belongs",
    ),
    "Tuple": (
        "def backward(self, dy):\n        return 2 * dy, None",
        "Tuple: wrong. tuple1: backward returned tuple (array([[",
    ),
    "Infinite": (
        "def forward(self, x, train=False):\n        return np.log(x - x)",
        "Infinite: wrong. ValueError: forward returns no finite numbers for any kind of rows",
    ),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_usual_slip_is_said_in_a_line(write, name):
    method, says = SLIPS[name]
    found = verdicts(write(f"{DOUBLE}class {name}(Double):\n    {method}\n"))
    said = str(found[name])
    assert said.startswith(says)
    assert len(said) < 300


def test_a_shape_that_is_wrong_in_one_width_alone_is_no_width_that_is_refused(write):
    text = """
    class Halves(gd.Layer):
        def forward(self, x, train=False):
            return x if x.shape[1] % 2 == 0 else x[:, :1]
        def backward(self, dy):
            return dy
    """
    assert "forward returned an array of shape (7, 1)" in str(verdicts(write(text))["Halves"])


def test_examples_are_checked_in_place_of_their_class(write):
    found = verdicts(write(POWER + DOUBLE + "examples = [Power(2), Power(p=3), gd.Dense(2)]\n"))
    assert list(found)[:2] == ["Power(p=2)", "Power(p=3)"]
    assert list(found)[2].startswith("Dense(units=2")
    assert list(found)[3:] == ["Double"]
    assert all(verdict.right for verdict in found.values())


def test_private_and_imported_classes_and_bare_bases_are_left_alone(write):
    text = """
    from minigd import Tanh
    class _Hidden(gd.Layer):
        pass
    class Elementwise(gd.Layer):
        def forward(self, x, train=False):
            if train:
                self.keep(x)
            return self.f(x)
        def backward(self, dy):
            (x,) = self.kept()
            return dy * self.slope(x)
    class Square(Elementwise):
        def f(self, x):
            return x * x
        def slope(self, x):
            return 2 * x
    class Half(gd.Layer):
        def forward(self, x, train=False):
            return x / 2
    """
    found = verdicts(write(text))
    assert list(found) == ["Square", "Half"]
    assert found["Square"].right
    assert "Half must define backward(dy)" in str(found["Half"])


def test_a_file_may_import_the_one_beside_it(write):
    write(DOUBLE, "beside_it.py")
    path = write("from beside_it import Double\nclass Same(Double):\n    pass\n")
    assert list(verdicts(path)) == ["Same"]


def test_a_layer_may_take_some_widths_alone(write):
    text = """
    class Pairs(gd.Layer):
        def build(self, n_in):
            if n_in % 2:
                raise ValueError("pairs need an even width")
            return n_in // 2
        def forward(self, x, train=False):
            return x[:, ::2] + x[:, 1::2]
        def backward(self, dy):
            return np.repeat(dy, 2, axis=1)
    class Nothing(gd.Layer):
        def build(self, n_in):
            raise ValueError("no width will do")
    """
    found = verdicts(write(text))
    assert found["Pairs"].right
    assert str(found["Nothing"]) == "Nothing: wrong. ValueError: no width will do"


def test_a_layer_of_positive_numbers_gets_some(write):
    text = """
    class Log(gd.Layer):
        def forward(self, x, train=False):
            if train:
                self.keep(x)
            return np.log(x)
        def backward(self, dy):
            (x,) = self.kept()
            return dy / x
    """
    assert verdicts(write(text))["Log"].right


def test_every_layer_and_loss_of_minigd_passes(write):
    text = """
    examples = [
        gd.Dense(3), gd.Tanh(), gd.Sigmoid(), gd.ReLU(), gd.LeakyReLU(), gd.Softmax(),
        gd.ELU(), gd.GELU(), gd.SiLU(), gd.Softplus(), gd.LayerNorm(),
        gd.Residual([gd.LayerNorm(), gd.Tanh()]),
        gd.BatchNorm(), gd.Dropout(), gd.Standardize(), gd.Rescale(),
        gd.MeanSquaredError(), gd.Huber(), gd.BinaryCrossEntropy(), gd.CategoricalCrossEntropy(),
        gd.BinaryCrossEntropy(from_logits=True), gd.CategoricalCrossEntropy(from_logits=True),
        gd.MeanAbsoluteError(), gd.Quantile(), gd.Quantile([0.1, 0.3, 0.4, 0.6, 0.9]),
        gd.Poisson(), gd.Hinge(), gd.Focal(), gd.Focal(from_logits=True),
    ]
    """
    found = check_file(write(text))
    assert len(found) == 29
    assert [str(verdict) for verdict in found if not verdict.right] == []


def test_layers_of_students_pass_and_fail_with_their_slip():
    found = check_file(students.__file__)
    assert len(found) == len(students.ALL)
    assert all(verdict.right for verdict in found)


LOSSES = """
class LogCosh(gd.Loss):
    def per_example(self, z, y):
        return np.log(np.cosh(z - y)).mean(axis=1)
    def gradient(self, z, y):
        return np.tanh(z - y) / z.shape[1]

class Summed(LogCosh):
    def gradient(self, z, y):
        return np.tanh(z - y)

class Entropy(gd.Loss):
    def per_example(self, z, y):
        return -(y * (z - np.log(np.exp(z).sum(axis=1, keepdims=True)))).sum(axis=1)
    def gradient(self, z, y):
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) - y

class OfProbabilities(gd.Loss):
    def per_example(self, z, y):
        return -(y * np.log(z) + (1 - y) * np.log(1 - z)).sum(axis=1)
    def gradient(self, z, y):
        return (z - y) / (z * (1 - z))

class Logits(OfProbabilities):
    def gradient(self, z, y):
        return z - y
"""


def test_losses_are_checked_with_targets_that_they_take(write):
    found = verdicts(write(LOSSES))
    for name in ("LogCosh", "Entropy", "OfProbabilities"):
        assert found[name].right, str(found[name])
    assert "the mean over the 6 outputs is missing" in str(found["Summed"])
    assert "z − y is the gradient with respect to the logits" in str(found["Logits"])


def test_a_loss_that_takes_nothing_is_told(write):
    text = """
    class Odd(gd.Loss):
        def per_example(self, z, y):
            return np.full(len(z), np.nan)
        def gradient(self, z, y):
            return z
    class Unfinished(gd.Loss):
        pass
    """
    found = verdicts(write(text))
    assert "returns no finite numbers" in str(found["Odd"])
    assert "must define per_example(z, y)" in str(found["Unfinished"])


def test_a_file_that_warns_does_not_stop_the_check(write):
    text = DOUBLE.replace("return 2 * x", "np.log(-1.0)\n        return 2 * x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verdicts(write(text))["Double"].right


def test_the_error_is_kept_for_whoever_asks(write):
    text = DOUBLE + "class Wrong(Double):\n    def backward(self, dy):\n        return dy\n"
    error = verdicts(write(text))["Wrong"].error
    assert isinstance(error, gd.GradientError)
    assert error.diagnosis is not None


@pytest.mark.parametrize("value", ["error", "error.mean()", "error[:, :1]"])
def test_a_loss_that_gives_no_number_for_each_row_is_told_so(write, capsys, value):
    text = f"""
class Mine(gd.Loss):
    def per_example(self, z, y):
        error = (z - y) ** 2
        return {value}
    def gradient(self, z, y):
        return 2 * (z - y) / z.shape[1]
"""
    assert main(["check", write(text)]) == 1
    assert "Mine.per_example must return a number for each row" in capsys.readouterr().out
    mended = text.replace(f"return {value}", "return error.mean(axis=1)")
    assert main(["check", write(mended)]) == 0
