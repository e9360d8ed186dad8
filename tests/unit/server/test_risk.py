"""Which cells wait for the user under ask-risky: a corpus of harmless and harmful code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cellwright.server.agent.risk import Reasons, reasons

HARMLESS = [
    "",
    "x = 1",
    "import pandas as pd\ndf = pd.read_csv('penguins.csv')\ndf.groupby('species').mean()",
    "df.drop(columns=['a']).rename(columns={'b': 'c'}).replace({1: 2})",
    "s = 'a'.replace('b', 'c')",
    "df['name'] = df['name'].str.replace('-', ' ')",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('figure.png')\nplt.show()",
    "df.to_csv('out/result.csv', index=False)",
    "df.to_parquet('result.parquet')",
    "with open('notes.txt', 'w') as f:\n    f.write('x')",
    "open('/etc/hostname').read()",
    "from pathlib import Path\nPath('out').mkdir(exist_ok=True)\nPath('out/a.txt').write_text('x')",
    "from pathlib import Path\nout = Path('out')\n(out / 'b.txt').write_text('y')",
    "import os\nos.listdir('.')\nos.path.join('a', 'b')\nos.makedirs('a/b', exist_ok=True)",
    "import os\nprint(os.environ.get('HOME'), os.getcwd(), os.cpu_count())",
    "import shutil\nshutil.copy('a.csv', 'b.csv')",
    "%matplotlib inline\n%time sum(range(10))",
    "%%time\ntotal = sum(range(10))",
    "del df['x']",
    "l = [1, 2]\nl.remove(1)\nl.pop()",
    "import re, json, math, collections, itertools, datetime",
    "json.dump({}, open('a.json', 'w'))",
    "print('subprocess.run(rm -rf /)')",
    "# os.system('rm -rf /')",
    "url = 'https://example.org/data.csv'",
    "text = 'see https://example.org for more'",
    "df.query('x > 1').eval('y = x + 1')",
    "model.fit(X, y); model.eval()",
    "import numpy as np\nnp.save('a.npy', np.ones(3))\nnp.load('a.npy')",
    "from sklearn.datasets import load_iris\nload_iris()",
    "from concurrent.futures import ThreadPoolExecutor",
    "import sqlite3\nc = sqlite3.connect('a.db')\nc.execute('DELETE FROM t')",
    "import sqlite3\nc = sqlite3.connect(':memory:')",
    "from sqlalchemy import create_engine\ne = create_engine('sqlite:///a.db')",
    "import threading\nthreading.Thread(target=print).start()",
    "functions = {'a': sum}\nsum([1])",
    "from tempfile import TemporaryDirectory",
    "class A:\n    def remove(self): pass\nA().remove()",
    "getattr(df, 'mean')()",
    "import plotly.express as px\nfig = px.bar(df); fig.write_html('chart.html')",
    "f'{x}.csv'\ndf.to_csv(f'{name}.csv')",
    "date = '2020/01/05'\ndate.replace('/', '-')",
    "df['url'].str.extract(r'/(x+)/')",
    "pd.to_datetime('2020/01/01')",
    "code.value_counts(); requests.head(); socket.plot(); invoke.real",
    "%timeit -n 10 df.sum()",
    "aggregations['mean'](df)",
    "from pathlib import Path\nout = Path('out') / 'x.csv'\ndf.to_csv(out)",
    "%cd out",
    "async def f(): pass\nawait f()",
]

HARMFUL = [
    ("!pip install requests", "installs"),
    ("import sqlite3\nc = sqlite3.connect('/srv/a.db')", "writes outside"),
    ("from sqlalchemy import create_engine as new\ne = new('sqlite:////srv/a.db')", "writes outside"),
    ("import shelve\nshelf = shelve.open('../shelf')", "writes outside"),
    ("%pip install x", "installs"),
    ("%conda install x", "installs"),
    ("import pip\npip.main(['install', 'x'])", "installs"),
    ("!rm -rf /", "starts"),
    ("files = !ls", "starts"),
    ("%%bash\nrm -rf ~", "starts"),
    ("get_ipython().system('ls')", "starts"),
    ("%%time\n!ls", "starts"),
    ("import os\nos.system('ls')", "starts"),
    ("import os as o\no.system('ls')", "starts"),
    ("from os import system\nsystem('ls')", "starts"),
    ("from os import system as s\ns('ls')", "starts"),
    ("import os\nf = os.system\nf('ls')", "starts"),
    ("import os\ngetattr(os, 'system')('ls')", "starts"),
    ("import os\ngetattr(os, 'sys' + 'tem')('ls')", "starts"),
    ("import os\nname = input\ngetattr(os, name)('ls')", "cannot be judged"),
    ("import os\nos.execvp('ls', ['ls'])", "starts"),
    ("import os\nos.fork()", "starts"),
    ("import subprocess", "starts"),
    ("import subprocess as sp\nsp.check_output('ls')", "starts"),
    ("from multiprocessing import Pool", "starts"),
    ("from concurrent.futures import ProcessPoolExecutor", "starts"),
    ("import asyncio\nasyncio.create_subprocess_shell('ls')", "starts"),
    ("import os\nos.remove('a.csv')", "deletes"),
    ("import os\n[os.unlink(f) for f in os.listdir()]", "deletes"),
    ("import shutil\nshutil.rmtree('out')", "deletes"),
    ("from shutil import rmtree\nrmtree('out')", "deletes"),
    ("from pathlib import Path\nPath('a.csv').unlink()", "deletes"),
    ("from pathlib import Path\nfor p in Path('.').glob('*'): p.unlink()", "deletes"),
    ("import os\nos.rmdir('a')", "deletes"),
    ("open('/etc/passwd', 'w')", "writes outside"),
    ("open('../other.txt', 'a')", "writes outside"),
    ("open(mode='w', file='x')\nopen('/tmp/x', mode='wb')", "writes outside"),
    ("import os\nopen(os.path.expanduser('~/.bashrc'), 'a')", "writes outside"),
    ("import os\nopen(os.path.join('/', 'etc', 'x'), 'w')", "writes outside"),
    ("p = '/etc/x'\nopen(p, 'w')", "writes outside"),
    ("from pathlib import Path\nPath('/etc/x').write_text('y')", "writes outside"),
    ("from pathlib import Path\nPath.home().joinpath('x').write_text('y')", "writes outside"),
    ("from pathlib import Path\n(Path('..') / 'x').write_text('y')", "writes outside"),
    ("df.to_csv('/srv/shared/x.csv')", "writes outside"),
    ("df.to_csv('~/x.csv')", "writes outside"),
    ("plt.savefig('../../figure.png')", "writes outside"),
    ("import shutil\nshutil.copy('a', '/etc/a')", "writes outside"),
    ("import os\nos.rename('a', '/etc/a')", "writes outside"),
    ("import os\nos.symlink('/etc', 'x')", "writes outside"),
    ("import os\nos.chmod('/etc', 0o777)", "writes outside"),
    ("%%writefile /etc/x\nhello", "writes outside"),
    ("import requests", "network"),
    ("import urllib.request", "network"),
    ("from urllib.request import urlopen", "network"),
    ("import urllib.request as r\nr.urlopen('x')", "network"),
    ("import socket", "network"),
    ("from http.client import HTTPConnection", "network"),
    ("import pandas as pd\npd.read_csv('https://example.org/a.csv')", "network"),
    ("url = 'http://example.org/a.csv'\nimport pandas as pd\npd.read_csv(url)", "network"),
    ("pd.read_parquet('s3://bucket/a.parquet')", "network"),
    ("import seaborn as sns\nsns.load_dataset('penguins')", "network"),
    ("from sklearn.datasets import fetch_openml", "network"),
    ("df.to_sql('t', 'postgresql://u@h/db')", "network"),
    ("exec('import os')", "cannot be judged"),
    ("eval(compile('1', '', 'eval'))", "cannot be judged"),
    ("__import__('os').system('ls')", "cannot be judged"),
    ("import importlib\nimportlib.import_module('os')", "cannot be judged"),
    ("().__class__.__bases__[0].__subclasses__()", "cannot be judged"),
    ("import builtins\nbuiltins.exec('1')", "cannot be judged"),
    ("e = exec\ne('1')", "cannot be judged"),
    ("import ctypes", "cannot be judged"),
    ("import sys\nsys.modules['os'].system('ls')", "cannot be judged"),
    ("globals()['__builtins__']", "cannot be judged"),
    ("[print, exec][1]('1')", "cannot be judged"),
    ("pd.read_csv(f'https://example.com/{year}.csv')", "network"),
    ("pd.read_csv('https://example.com/' + name)", "network"),
    ("pd.read_csv('https://example.com/{}'.format(name))", "network"),
    ("from os import system", "starts"),
    ("from os import *", "cannot be judged"),
    ("o.system('ls')", "starts"),
    ("open(file='/etc/x', mode='w')", "writes outside"),
    ("import shutil\nshutil.copy('a', dst='/etc/x')", "writes outside"),
    ("import os\nos.makedirs(name='/x')", "writes outside"),
    ("from pathlib import Path\nout = Path.home() / 'x.csv'\ndf.to_csv(out)", "writes outside"),
    ("from pathlib import Path\nout = Path.home() / 'x.csv'\nout.write_text('x')", "writes outside"),
    ("import os\nos.chdir('/etc')", "writes outside"),
    ("%cd /etc", "writes outside"),
    ("get_ipython().run_cell('!rm -rf ~')", "cannot be judged"),
    ("ip = get_ipython()\nip.system('x')", "cannot be judged"),
    ("import os\nf = os.__dict__['system']\nf('x')", "cannot be judged"),
    ("import os\nvars(os)['system']('x')", "cannot be judged"),
    ("def broken(:\n  pass", "not Python"),
    ("x = (\n!rm -rf /\n", "not Python"),
]


@pytest.mark.parametrize("source", HARMLESS)
def test_harmless_code_does_not_ask(source: str) -> None:
    """What a data analysis does all day runs without a question."""
    assert reasons(source, "/work/session") == []


@pytest.mark.parametrize(("source", "why"), HARMFUL)
def test_harmful_code_asks(source: str, why: str) -> None:
    """Each way to install, delete, write outside, start, reach out or hide is found, and named."""
    found = reasons(source, "/work/session")
    assert any(why in reason for reason in found), found


def test_reasons_name_their_line() -> None:
    """Each reason comes once, with the first line that gives it."""
    assert reasons("x = 1\nimport os\nos.remove('a')\nos.remove('b')", ".") == ["deletes files (line 3)"]


def test_the_workspace_is_where_it_is() -> None:
    """A full path into the workspace is inside; one beside it is not."""
    assert reasons("open('/work/session/a/b.txt', 'w')", "/work/session") == []
    assert reasons("open('/work/session2/b.txt', 'w')", "/work/session") != []


def test_endless_nesting_is_no_way_around() -> None:
    """What the parser cannot take is unreadable, not harmless."""
    assert reasons("(" * 100_000, ".") != []
    assert reasons("x = " + "-" * 200_000 + "1", ".") != []


@pytest.mark.parametrize(
    ("before", "source", "why"),
    [
        (["import requests"], "requests.post(url, json=found)", "reaches the network"),
        (["import requests as r"], "r.delete(url)", "reaches the network"),
        (["from subprocess import run"], "run(['true'])", "starts processes"),
        (["import psycopg2\nconn = psycopg2.connect(address)"], "conn.commit()", "reaches the network"),
        (
            ["import psycopg2\nconn = psycopg2.connect(address)", "cur = conn.cursor()"],
            "cur.execute('DELETE FROM t')",
            "reaches the network",
        ),
        (
            ["import boto3\ns3 = boto3.resource('s3')", "bucket = s3.Bucket('b')"],
            "bucket.upload_file('a', 'b')",
            "network",
        ),
        (
            ["from pymongo import MongoClient\ndb = MongoClient(url).db"],
            "db['t'].insert_one({})",
            "reaches the network",
        ),
        (
            ["from sqlalchemy import create_engine\nengine = create_engine('postgresql://h/d')"],
            "df.to_sql('t', engine)",
            "reaches the network",
        ),
        (
            ["URL = 'postgresql://h/d'", "from sqlalchemy import create_engine"],
            "create_engine(URL)",
            "reaches the network",
        ),
        (["import subprocess\np = subprocess.Popen(['cat'])"], "p.kill()", "starts processes"),
        (["target = '/etc/motd'"], "open(target, 'w').write('x')", "writes outside the workspace"),
    ],
)
def test_what_an_earlier_cell_said_counts(before: list[str], source: str, why: str) -> None:
    """A cell is judged by what its names mean: modules, addresses and connections of cells before it."""
    assert any(why in reason for reason in reasons(source, "/work/session", before)), reasons(source, ".", before)


@pytest.mark.parametrize(
    ("before", "source"),
    [
        (["import requests\nanswer = requests.get(url)"], "answer.json()['rows'][0]"),
        (["import psycopg2\nconn = psycopg2.connect(a)\nrows = conn.execute('q').fetchall()"], "len(rows); rows[0]"),
        (["import pandas as pd\nengine = create_engine(url)\ndf = pd.read_sql('q', engine)"], "df.mean()"),
        (["import requests"], "df.head()"),
        (["target = '/etc/motd'"], "target = 'a.txt'\nopen(target, 'w').write('x')"),
        (["import psycopg2\nconn = psycopg2.connect(a)"], "conn = None\nprint(conn)"),
        (["from sqlalchemy import create_engine\ne = create_engine('sqlite:///a.db')"], "df.to_sql('t', e)"),
    ],
)
def test_what_an_earlier_cell_got_is_harmless(before: list[str], source: str) -> None:
    """What came over a connection is data; a name that was given something else means that."""
    assert reasons(source, "/work/session", before) == []


@pytest.mark.parametrize(
    ("before", "source", "reason"),
    [
        ("import requests\ndef send(x): return requests.post('http://a', json=x)", "send(1)", "reaches the network"),
        ("def go(): one()\ndef one(): open('/tmp/x', 'w')", "go()", "writes outside"),
        ("def save(p): open(p, 'w').write('x')", "save('/tmp/x')", "writes outside"),
        ("class A:\n    p = '/tmp/x'\n    def go(self): open(self.p, 'w')", "A().go()", "writes outside"),
        ("import shutil\nclass A:\n    def go(self): shutil.rmtree('x')\na = A()", "a.go()", "deletes files"),
        ("import requests\nf = {'post': requests.post}", "f['post']('http://a')", "reaches the network"),
        ("import subprocess\nlater = (subprocess.run(c) for c in [])", "next(later)", "starts processes"),
        ("base = 'https://x'", "import pandas as pd\npd.read_csv(f'{base}/y.csv')", "reaches the network"),
        ("out = '/data'", "df.to_csv(f'{out}/x.csv')", "writes outside"),
        ("import os\nHOME = os.path.expanduser('~')", "df.to_csv(os.path.join(HOME, 'x.csv'))", "writes outside"),
        ("import os\nup = os.path.relpath('/tmp/x')", "open(up, 'a')", "writes outside"),
        ("import sqlite3\ncon = sqlite3.connect('/data/x.db')", "con.execute('delete from t')", "writes outside"),
        ("", "%sql delete from t", "cannot be judged"),
    ],
)
def test_what_earlier_cells_defined(before: str, source: str, reason: str) -> None:
    """Whoever calls code of an earlier cell does what that does."""
    assert any(reason in found for found in reasons(source, "/work", [before] if before else []))


@pytest.mark.parametrize(
    ("before", "source"),
    [
        ("import requests\ndef send(): requests.get('http://a')", "send = len\nsend([1])"),
        ("import requests\ndef load(): return requests.get('http://a')\ndf = load()", "df.mean()"),
        ("def save(p): open(p, 'w').write('x')", "save('x.txt')"),
        ("", "df.to_csv(f'{name}.csv')"),
        ("out = 'results'", "df.to_csv(f'{out}/x.csv')"),
        ("", "df.to_csv(f'{region}/x.csv')"),
        (
            "import os\nOUT = os.path.join(os.getcwd(), 'out')",
            "os.makedirs(OUT)\ndf.to_csv(os.path.join(OUT, 'a.csv'))",
        ),
        ("import os\nBASE = os.path.dirname(os.path.abspath('n.ipynb'))", "os.makedirs(os.path.join(BASE, 'figs'))"),
        ("import os", "out = os.path.splitext(f)[0] + '.png'\nplt.savefig(out)"),
        ("import os", "name = os.path.basename(p)\ndf.to_csv(name)\ndf.to_csv(os.path.abspath('out.csv'))"),
        (
            "def scatter(x, title):\n    plt.title(title)\n    plt.savefig('a.png')",
            "scatter(1, '~10 %')\nscatter(1, '/a')",
        ),
        ("import requests\ndef get(u): return requests.get(u)", "def get(u): return 1\nget(1)"),
        ("import requests\nfrom requests import get", "from mine import get\nget(1)"),
        ("import requests\nf = {'post': requests.post}", "len(f)"),
        ("import os", "p = os.path.join('out', name)\ndf.to_csv(p)"),
    ],
)
def test_what_only_looks_like_it(before: str, source: str) -> None:
    """A value that such code gave does nothing by itself."""
    assert reasons(source, "/work", [before] if before else []) == []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("df.to_csv(f'{out}/x.csv')", "writes outside"),
        ("for p in Path('/data').glob('*.csv'): p.unlink()", "cannot be told beforehand"),
        ("import os\nos.remove(p)", "cannot be told beforehand"),
        ("import os\nos.remove('/data/a.csv')", "deletes what is outside"),
        ("%sql delete from t", "reaches the network"),
    ],
)
def test_what_ran_is_judged_on_the_safe_side(source: str, reason: str) -> None:
    """What cannot be told of a cell may have reached anywhere; who is to be asked is told by what can."""
    assert any(reason in found for found in Reasons("/work", ran=True).of(source))
    assert not any("outside" in found for found in Reasons("/work", ran=True).of("import os\nos.remove('a.csv')"))


MODULES = {
    "helper.py": (
        "import requests\nfrom tools.core import push as sent\n\n"
        "def send(x): return requests.post('http://a', json=x)\n"
        "def twice(x): return 2 * x\n"
        "def store(table, where): table.to_csv(where)\n"
        "class Client:\n    def get(self): return requests.get('http://a')\n"
        "if __name__ == '__main__':\n    send(1)\n"
    ),
    "tools/__init__.py": "from .core import push\n",
    "tools/core.py": "from .run import start\ndef push(): start()\ndef half(x): return x / 2",
    "tools/run.py": "import subprocess\ndef start(): subprocess.run(['true'])",
    "held.py": "import requests\nsession = requests.Session()",
    "loud.py": "import os\nos.system('true')",
    "lib/deep.py": "import shutil\ndef away(): shutil.copy('a', '/srv/a')",
    "broken.py": "def (",
    "one.py": "import two, subprocess\ndef start(): subprocess.run(['true'])\ndef go(): two.push()",
    "two.py": "import one\ndef push(): one.start()",
    "paths.py": "import os\nfrom os import remove\nfrom pathlib import Path\nDATA = Path(__file__).parent / 'data'\n"
    "DATA.mkdir(exist_ok=True)\nREDIS = redis = 5\n"
    "def save(table, path):\n    Path(path).parent.mkdir(exist_ok=True)\n    table.to_csv(path)",
    "motor.py": "class Fault(OSError): pass\nclass Config:\n    def __init__(self, **all): self.__dict__.update(all)",
    "endless.py": "x = f" + ".a()" * 2_000,
}


@pytest.fixture
def project(tmp_path: Path) -> str:
    for name, source in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    (tmp_path / "out").symlink_to("/srv")
    (tmp_path / "model.py").write_text("import os\ndef train(): os.system('a')")
    os.mkfifo(tmp_path / "pipe.py")  # Reading it would not end.
    return str(tmp_path)


@pytest.mark.parametrize(
    ("before", "source", "reason"),
    [
        ("import helper", "helper.send(1)", "reaches the network"),
        ("import helper as h", "h.send(1)", "reaches the network"),
        ("from helper import send as s", "s(1)", "reaches the network"),
        ("from helper import *", "send(1)", "reaches the network"),
        ("import helper\nc = helper.Client()", "c.get()", "reaches the network"),
        ("from helper import Client", "c = Client()", "reaches the network"),
        ("import held", "held.session.get('x')", "reaches the network"),
        ("import helper", "helper.requests.get('http://a')", "reaches the network"),
        ("import helper", "helper.store(df, '/srv/a.csv')", "writes outside"),
        ("import helper", "helper.sent()", "starts processes"),
        ("import tools", "tools.push()", "starts processes"),
        ("from tools import core", "core.push()", "starts processes"),
        ("import tools.core", "tools.core.push()", "starts processes"),
        ("", "import loud", "starts processes"),
        ("import sys\nsys.path.append('lib')\nimport deep", "deep.away()", "writes outside"),
        ("", "df.to_csv('out/a.csv')", "writes outside"),
        ("import one", "one.go()", "starts processes"),
        ("import two", "two.push()", "starts processes"),
        ("from paths import *", "os.execv('/bin/sh', [])", "starts processes"),
        ("import paths", "paths.os.remove('/etc/x')", "deletes what is outside"),
        ("import paths", "paths.remove('/etc/x')", "deletes what is outside"),
        ("import paths", "paths.save(df, '/srv/a/b.csv')", "writes outside"),
        ("", "import endless", "runs code that cannot be judged"),
        ("import sys\nsys.path += ['lib']\nimport deep", "deep.away()", "writes outside"),
        ("import os\nos.chdir('lib')\nimport deep", "deep.away()", "writes outside"),
        ("from pathlib import Path\nROOT = Path('/srv')", "(ROOT / 'a').write_text('1')", "writes outside"),
        ("from pathlib import Path\nROOT = Path('/srv')", "for n in 'ab': (ROOT / n).touch()", "writes outside"),
        ("OUT = '/srv'", "import zipfile\nzipfile.ZipFile(OUT + '/a.zip', 'w')", "writes outside"),
        ("", "import logging\nlogging.FileHandler('/srv/a.log')", "writes outside"),
        ("def save(x): open('/srv/a', 'a').write(x)", "save('b')", "writes outside"),
        ("", "open('a\\0b', 'w')", "writes outside"),
    ],
)
def test_what_modules_of_the_workspace_do(project: str, before: str, source: str, reason: str) -> None:
    """Code that lies in files counts as that of cells; and so does a link that leads away."""
    judged = Reasons(project, ran=True)
    assert not judged.of(before) or "Client()" in before or "held" in before
    assert [why.partition(" (")[0][: len(reason)] for why in judged.of(source)][:1] == [reason]


@pytest.mark.parametrize(
    ("before", "source"),
    [
        ("import requests", "df.u.apply(lambda u: requests.get(u).text)"),
        ("import requests", "(f := lambda: requests.get('http://a'))()"),
        ("import requests", "h = {}\nh['a'] = lambda: requests.get('http://a')\nh['a']()"),
        ("import requests", "def main(): requests.post('http://a')\nif __name__ == '__main__': main()"),
        ("import subprocess as sp\nx = [sp for sp in rows]\ndef f(): sp = None", "sp.run(['true'])"),
        ("from os import system\ndef f():\n    system = None", "system('true')"),
        ("import requests\ndef main(): load()\ndef load(): fetch()\ndef fetch(): requests.get('http://a')", "main()"),
        ("import requests\ndef a(): return b()\ndef b(): requests.get('http://a')", "a()"),
        ("import requests, atexit", "@atexit.register\ndef g(): requests.post('http://a')"),
        ("import requests", "@interact(x=3)\ndef g(x): requests.get('http://a')"),
    ],
)
def test_what_is_called_by_others(before: str, source: str) -> None:
    """A function need not be called by its name, nor stand above those that call it."""
    judged = Reasons(ran=True)
    assert judged.of(before) == []
    assert len(judged.of(source)) >= 1


def test_modules_of_another_time(tmp_path: Path) -> None:
    """Files that lay in the workspace count before those that are there; where cells look for them does not change."""
    judged = Reasons(str(tmp_path), ran=True)
    judged.of("import sys\nsys.path.append('src')")
    judged.lie({"src/helper.py": b"import os\ndef send(): os.system('true')"})
    assert judged.of("import helper\nhelper.send()") == ["starts processes (line 2)"]


@pytest.mark.parametrize(
    "source",
    [
        "import helper\nhelper.twice(2)\nhelper.store(df, 'a.csv')",
        "from tools.core import half\nhalf(2)",
        "import deep\ndeep.away()",
        "import broken",
        "helper = {}\nhelper.send",
        "import paths\npaths.save(df, 'out2/a.csv'), paths.redis",
        "import motor\nmotor.Config(a=1)\nraise motor.Fault",
        "model = Model()\nw = model.coef_\nmodel.train()",
        "import pipe",
    ],
)
def test_what_modules_of_the_workspace_do_not(project: str, source: str) -> None:
    """Importing one does no more than it does at once; a variable is none, nor is what cannot be found."""
    assert Reasons(project, ran=True).of(source) == []
