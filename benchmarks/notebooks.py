"""Real notebooks to go back and forth in: what one does with scikit-learn, pandas and Matplotlib, a cell a turn."""

from __future__ import annotations

PANDAS = [
    """import numpy as np, pandas as pd
rng = np.random.default_rng(1)
orders = pd.DataFrame({
    "day": pd.date_range("2026-01-01", periods=200_000, freq="min"),
    "region": rng.choice(["north", "south", "east", "west"], 200_000),
    "price": rng.gamma(3, 10, 200_000).round(2), "pieces": rng.integers(1, 9, 200_000)})""",
    "orders['sales'] = orders.price * orders.pieces\nbig = orders[orders.sales > 200]",
    "daily = orders.groupby([orders.day.dt.date, 'region']).sales.sum().unstack()\ndaily.head()",
    "stream = (row for row in daily.itertuples())\nfirst = next(stream)",
    "best = {region: daily[region].idxmax() for region in daily}\norders = orders.drop(columns='sales')",
    "del big\nrank = daily.rank(axis=1).mean().sort_values()\nnext(stream)",
    "orders.loc[orders.region == 'north', 'price'] *= 1.1\ntotal = float((orders.price * orders.pieces).sum())",
]
SKLEARN = [
    """import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
X, y = load_digits(return_X_y=True)
train, test, y_train, y_test = train_test_split(X, y, random_state=0)""",
    """from sklearn.ensemble import RandomForestClassifier
forest = RandomForestClassifier(60, random_state=0).fit(train, y_train)
forest.score(test, y_test)""",
    """from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
pipe = make_pipeline(StandardScaler(), SVC()).fit(train, y_train)
scores = {"forest": forest.score(test, y_test), "svc": pipe.score(test, y_test)}""",
    "wrong = test[pipe.predict(test) != y_test]\nsplit = iter(np.array_split(train, 5))",
    """noise = np.random.default_rng(0).normal(0, 1, train.shape)
train, y_train = np.vstack([train, train + noise]), np.tile(y_train, 2)""",
    "pipe.fit(train, y_train)\nscores['svc, noise'] = pipe.score(test, y_test)\nscores",
]
MATPLOTLIB = [
    """import numpy as np, matplotlib.pyplot as plt
x = np.linspace(0, 20, 2_000)
signal = np.sin(x) + 0.3 * np.sin(7 * x)""",
    "fig, ax = plt.subplots()\nline, = ax.plot(x, signal)\nplt.show()",
    "noise = np.random.normal(0, 0.4, x.size)\nmeasured = signal + noise",
    """kernel = np.hanning(25)
smooth = lambda values: np.convolve(values, kernel / kernel.sum(), 'same')
clean = smooth(measured)""",
    "fig, (left, right) = plt.subplots(1, 2)\nleft.plot(x, clean); right.specgram(measured)\nplt.show()",
    "measured[::50] = np.nan\ngaps = int(np.isnan(measured).sum())\nclean = smooth(np.nan_to_num(measured))",
]
NOTEBOOKS = {"pandas": PANDAS, "scikit-learn": SKLEARN, "Matplotlib": MATPLOTLIB}

FINGERPRINTS = """
def fingerprints(names):
    import cloudpickle, hashlib, pickletools, re, types

    def told(value):  # What a value pickles to, whether or not equal texts in it are one object.
        memo, objects, last, counter = {}, 0, None, False
        found = hashlib.sha256()
        for op, argument, _ in pickletools.genops(cloudpickle.dumps(value)):
            if op.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
                text = isinstance(last, str)
                memo[len(memo)], objects = (last if text else objects), objects + (not text)
                continue
            if op.name in ("BINGET", "LONG_BINGET"):
                argument = memo[argument]
            elif op.name == "FRAME":
                continue
            last = argument
            if not counter:
                if isinstance(argument, str):  # By this cloudpickle knows a class again that it has made before.
                    argument = "an id" if re.fullmatch("[0-9a-f]{32}", argument) else argument
                kind = "text" if isinstance(argument, str) else op.name
                found.update(repr((kind, argument)).encode("utf-8", "surrogatepass"))
            counter = argument == "_cid_gen"  # Matplotlib counts in it how often a figure was copied.
        return found.hexdigest()

    found = {}
    for name, value in list(names.items()):
        if name.startswith("_") or name in ("In", "Out", "get_ipython", "exit", "quit", "open"):
            continue
        if isinstance(value, types.ModuleType):
            continue
        try:
            once = cloudpickle.loads(cloudpickle.dumps(value))  # What is equal shares its parts afterwards, or not.
            found[name] = told(cloudpickle.loads(cloudpickle.dumps(once)))
        except Exception:  # What cannot be pickled is looked at by how far it is.
            frame = getattr(value, "gi_frame", None)
            length = value.__length_hint__() if hasattr(value, "__length_hint__") else None
            found[name] = repr((type(value), frame and frame.f_lasti, length))
    return found
"""
"""Deep comparison, for any kernel: what two values pickle to."""
