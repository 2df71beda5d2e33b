"""Parameters of parameters: a grid search reaches those of an updater that is an object."""

import inspect
import pickle

import numpy as np
import pytest
from sklearn import base, datasets
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import minigd as gd
from minigd.optim.updaters import UPDATERS

X, Y = datasets.load_iris(return_X_y=True)
ESTIMATORS = (gd.MiniBatchClassifier, gd.MiniBatchRegressor)
both = pytest.mark.parametrize("Estimator", ESTIMATORS)
each_updater = pytest.mark.parametrize("Updater", dict.fromkeys(UPDATERS.values()))


def quick(Estimator=gd.MiniBatchClassifier, **settings):
    return Estimator(**{"epochs": 3, "batch_size": 40, "random_state": 0, **settings})


@each_updater
def test_parameters_are_the_arguments_of_the_constructor(Updater):
    updater = Updater()
    assert list(updater.get_params()) == list(inspect.signature(Updater).parameters)
    assert updater.get_params() == updater.config()
    for name in updater.get_params():
        if isinstance(updater.get_params()[name], float):
            changed = Updater().set_params(**{name: 0.25})
            assert changed.get_params() == {**updater.get_params(), name: 0.25}
            assert repr(changed) == repr(Updater(**changed.get_params()))


@each_updater
def test_scikit_learn_clones_an_updater(Updater):
    updater = Updater(gd.CosineDecay(0.1, epochs=3))
    assert repr(base.clone(updater)) == repr(updater)
    assert base.clone(updater) is not updater


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"momentun": 0.5}, "unknown parameter of SGD 'momentun'.*did you mean 'momentum'"),
        ({"learning_rate__steps": 3}, "unknown parameter of SGD 'learning_rate__steps'"),
        ({"momentum": 1.5}, "momentum must be a number"),
        ({"learning_rate": -1.0}, "learning_rate must be a number"),
    ],
)
def test_bad_values_change_nothing(values, message):
    updater = gd.SGD(0.1, momentum=0.5)
    with pytest.raises(ValueError, match=message):
        updater.set_params(**{"nesterov": True, **values})
    assert repr(updater) == repr(gd.SGD(0.1, momentum=0.5))


def test_a_schedule_takes_the_place_of_a_number_and_back():
    schedule = gd.CosineDecay(0.1, epochs=3)
    updater = gd.SGD(0.1).set_params(learning_rate=schedule)
    assert updater.get_params()["learning_rate"] is schedule
    assert updater.set_params(learning_rate=0.5).learning_rate == 0.5


def test_setting_forgets_the_state():
    model = gd.Sequential([gd.Dense(1)], inputs=1, dtype="float64")
    updater = gd.SGD(0.1, momentum=0.9)
    updater.update(model)
    updater.set_params(momentum=0.5)
    assert updater.step == 0
    assert updater.state == {}


@both
def test_a_grid_search_reaches_the_updater(Estimator):
    rates = [0.0, 0.03]
    pipeline = make_pipeline(StandardScaler(), quick(Estimator, updater=gd.SGD(0.1)))
    name = f"{Estimator.__name__.lower()}__updater__"
    grid = GridSearchCV(
        pipeline,
        {f"{name}learning_rate": rates, f"{name}momentum": [0.0, 0.9]},
        cv=2,
        error_score="raise",
    )
    order = np.random.default_rng(0).permutation(len(X))
    grid.fit(X[order], Y[order])
    assert grid.best_params_[f"{name}learning_rate"] == 0.03
    assert repr(grid.best_estimator_[-1].updater) == repr(gd.SGD(0.03, grid.best_params_[
        f"{name}momentum"]))  # fmt: skip
    # The one that was given is not touched.
    assert repr(pipeline[-1].updater) == repr(gd.SGD(0.1))


@both
def test_the_same_as_an_updater_made_so(Estimator):
    one = quick(Estimator, updater=gd.Adam()).set_params(updater__learning_rate=0.02).fit(X, Y)
    other = quick(Estimator, updater=gd.Adam(0.02)).fit(X, Y)
    np.testing.assert_array_equal(one.model_.flat_params, other.model_.flat_params)
    assert "updater__beta1" in one.get_params()
    assert "updater__beta1" not in one.get_params(deep=False)
    assert pickle.loads(pickle.dumps(one)).get_params()["updater__learning_rate"] == 0.02


def test_the_object_and_its_parameter_may_come_together():
    estimator = quick(updater="adam")
    estimator.set_params(updater=gd.SGD(0.1), updater__momentum=0.5)
    assert repr(estimator.updater) == repr(gd.SGD(0.1, momentum=0.5))


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("sgd", "SGD"), ("rmsprop", "RMSp")])
@both
def test_a_name_has_no_parameters_and_the_error_says_how(Estimator, name, kind):
    message = rf"updater__learning_rate is a setting of .* the name '{name}': .*updater=gd\.{kind}"
    with pytest.raises(ValueError, match=message):
        quick(Estimator, updater=name).set_params(updater__learning_rate=0.1)
    grid = GridSearchCV(quick(Estimator, updater=name), {"updater__learning_rate": [0.1]}, cv=2)
    with pytest.raises(ValueError, match=message):
        grid.fit(X, Y)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss__delta": 1.0}, "loss__delta can't be set, because loss is .*: set loss as a whole"),
        ({"hidden__units": 1}, "hidden__units can't be set, because hidden is"),
        ({"nothing__rate": 1}, "Invalid parameter 'nothing'"),
        ({"epoch": 1}, "Invalid parameter 'epoch'"),
    ],
)
@both
def test_other_names_that_are_not_there(Estimator, values, message):
    with pytest.raises(ValueError, match=message):
        quick(Estimator).set_params(**values)


class Rounded(gd.SGD):
    """An updater of one's own, which keeps another number than it is given."""

    def __init__(self, learning_rate=0.1, digits=2):
        super().__init__(learning_rate)
        self.digits = np.float64(digits)


@pytest.mark.parametrize(
    ("updater", "name"),
    [
        (gd.PerLayer(gd.Nadam(0.1), {"dense1": 0.5}), "updater__updater__learning_rate"),
        (Rounded(), "updater__learning_rate"),
    ],
    ids=["per layer", "own"],
)
def test_an_updater_that_keeps_other_objects_than_it_is_given_is_searched_too(updater, name):
    grid = GridSearchCV(quick(updater=updater), {name: [0.0, 0.05]}, cv=2, error_score="raise")
    order = np.random.default_rng(0).permutation(len(X))
    grid.fit(X[order], Y[order])
    assert grid.best_params_ == {name: 0.05}
    assert grid.best_estimator_.updater.learning_rate == 0.05
    assert updater.learning_rate == 0.1
