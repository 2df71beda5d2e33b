"""CUDA C on the host: the text of a kernel, compiled by the system's C++ compiler.

It supports only what the kernels of this project use, with threads one by one or all at once.
"""

import atexit
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

NAMES = {"float32": "float", "float64": "double", "int64": "long long", "bool": "bool"}
NAMES |= {"uint64": "unsigned long long", "int32": "int", "uint32": "unsigned int"}
MISSING = "no C++ compiler is there, so the text of a kernel can't be run"

# The C library without its headers, which take most of the time of a compilation.
PRELUDE = """
#define __global__
#define __shared__ static
#define __launch_bounds__(threads)
#define MATH(name) \\
  extern "C" { double name(double); float name##f(float); } \\
  static inline float name(float x) { return name##f(x); }
MATH(tanh) MATH(exp) MATH(log) MATH(log1p) MATH(sqrt) MATH(fabs)
template <class N> static inline bool isfinite(N x) { return __builtin_isfinite(x); }

struct Place { unsigned x; };
__attribute__((unused)) static thread_local Place threadIdx, blockIdx, blockDim, gridDim;
__attribute__((unused)) static thread_local int warpSize;

// Where the threads of a warp wait for each other.
extern "C" int sched_yield();
static int arrived[1024], times[1024];
static void meet(int warp) {
  int time = __atomic_load_n(&times[warp], __ATOMIC_SEQ_CST);
  if (__atomic_add_fetch(&arrived[warp], 1, __ATOMIC_SEQ_CST) == warpSize) {
    __atomic_store_n(&arrived[warp], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&times[warp], time + 1, __ATOMIC_SEQ_CST);
  } else {
    while (__atomic_load_n(&times[warp], __ATOMIC_SEQ_CST) == time) sched_yield();
  }
}
template <class N> static inline N __shfl_xor_sync(unsigned, N value, int step) {
  static N values[1024];
  int warp = threadIdx.x / warpSize, lane = threadIdx.x % warpSize;
  values[threadIdx.x] = value;
  meet(warp);
  N other = values[warp * warpSize + (lane ^ step)];
  meet(warp);
  return other;
}

// And where those of a block do; one that is alone waits for nobody.
static int arrived_of_block, times_of_block;
static inline void __syncthreads() {
  if (blockDim.x == 1) return;
  int time = __atomic_load_n(&times_of_block, __ATOMIC_SEQ_CST);
  if (__atomic_add_fetch(&arrived_of_block, 1, __ATOMIC_SEQ_CST) == (int)blockDim.x) {
    __atomic_store_n(&arrived_of_block, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&times_of_block, time + 1, __ATOMIC_SEQ_CST);
  } else {
    while (__atomic_load_n(&times_of_block, __ATOMIC_SEQ_CST) == time) sched_yield();
  }
}

static inline long long offset(long long i, int ndim, const long long* shape,
                               const long long* strides) {
  long long bytes = 0;
  for (int axis = ndim - 1; axis >= 0; axis--) {
    bytes += i % shape[axis] * strides[axis];
    i /= shape[axis];
  }
  return bytes;
}
"""
# NumPy rounds each operation, and so must what is compared with it.
FLAGS = ["-O1", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unused-function", "-shared", "-fPIC"]
FLAGS += ["-Wno-unused-variable"]
# What a kernel calls is in the process already; to link it takes half of the time.
FLAGS += ["-nostdlib"] if sys.platform == "linux" else []
FOLDER = "MINIGD_KERNELS_OF_TESTS"
"""The variable that names the folder of libraries, which all processes of a run share."""


@functools.cache
def compiler():
    """Return the path of a C++ compiler, or None."""
    return next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


@functools.cache
def _folder():
    if FOLDER in os.environ:
        return os.environ[FOLDER]
    own = tempfile.TemporaryDirectory(prefix="kernels")
    atexit.register(own.cleanup)
    return own.name


def share_libraries():
    """Let this process and those that it starts compile each kernel once; return the folder."""
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="kernels")
    return os.environ[FOLDER]


_lock = threading.Lock()


def compiled(source):
    """Return a library of C++."""
    # Two threads that ask at once for different kernels would give their files one name.
    with _lock:
        return _compiled(source)


@functools.cache
def _compiled(source):
    if compiler() is None:
        raise NotImplementedError(MISSING)
    path = Path(_folder(), hashlib.sha256(source.encode()).hexdigest() + ".so")
    if not path.exists():
        new = path.with_suffix(f".{os.getpid()}")
        command = [compiler(), *FLAGS, "-x", "c++", "-", "-o", str(new), "-lm"]
        done = subprocess.run(
            command, input=PRELUDE + source, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{done.stderr}\n{source}"
        new.replace(path)
    return ctypes.CDLL(str(path))


def parameters(code, name):
    """Return (type, name) of each parameter of a kernel."""
    head = r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?'
    found = re.search(rf"{head}{name}\(([^)]*)\)", code)
    assert found, f"no kernel {name} in\n{code}"
    return [tuple(each.strip().rsplit(" ", 1)) for each in found[1].split(",")]


@functools.cache
def _runs(code):
    """Return a function for each kernel of a text, which runs it."""
    runs = []
    for name in re.findall(
        r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(', code
    ):
        values = ", ".join(
            f"({kind})arguments[{k}]" if kind.endswith("*") else f"*({kind}*)arguments[{k}]"
            for k, (kind, _) in enumerate(parameters(code, name))
        )
        runs.append(f"""
extern "C" void run_{name}(int blocks, int threads, int first, int last, int warp,
    void** arguments) {{
  gridDim.x = blocks, blockDim.x = threads, warpSize = warp;
  for (int block = 0; block < blocks; block++)
    for (int thread = first; thread < last; thread++) {{
      blockIdx.x = block, threadIdx.x = thread;
      {name}({values});
    }}
}}
""")
    return "".join(runs)


def launch(code, name, grid, block, pointers, warp=1, together=False):
    """Run a whole kernel over the addresses of its arguments.

    `warp` is how many threads of a block make a warp: 1 where they run one after the other, since
    nobody waits for another then; `together` gives each thread of a block a thread of its own.
    """
    assert together or warp == 1
    function = getattr(compiled(code + _runs(code)), f"run_{name}")
    arguments = (ctypes.c_void_p * len(pointers))(*pointers)
    if not together:
        function(grid, block, 0, block, warp, arguments)
        return
    with ThreadPoolExecutor(block) as pool:
        runs = [pool.submit(function, grid, block, t, t + 1, warp, arguments) for t in range(block)]
        for each in runs:
            each.result()


def loop(types, arguments, operation, shape):
    """Run the body of an elementwise kernel.

    Parameters
    ----------
    types : dict of str to dtype
        What each letter stands for.
    arguments : list of (name, type, is it constant, "array", "raw" or "number", numpy array)
        An array has the shape of the loop; a number has none.
    """
    lines = [f"typedef {NAMES[str(dtype)]} {letter};" for letter, dtype in types.items()]
    lines += [
        'extern "C" void run(long long size, int ndim, const long long* shape,',
        "                    const long long* strides, void** arguments) {",
        "  for (long long i = 0; i < size; i++) {",
    ]
    for k, (name, kind, constant, sort, _) in enumerate(arguments):
        const = "const " * constant
        place = f"(char*)arguments[{k}]"
        if sort == "raw":
            lines.append(f"    {const}{kind}* {name} = ({const}{kind}*)({place});")
        elif sort == "number":
            lines.append(f"    {const}{kind} {name} = *({kind}*)({place});")
        else:
            place += f" + offset(i, ndim, shape, strides + {k} * ndim)"
            lines.append(f"    {const}{kind}& {name} = *({kind}*)({place});")
    function = compiled("\n".join([*lines, operation, ";", "  }", "}", ""])).run
    strides = [each[-1].strides if each[-2] == "array" else (0,) * len(shape) for each in arguments]
    pointers = [each[-1].ctypes.data for each in arguments]
    function(
        ctypes.c_longlong(int(np.prod(shape))),
        len(shape),
        (ctypes.c_longlong * len(shape))(*shape),
        (ctypes.c_longlong * (len(shape) * len(arguments)))(*[s for each in strides for s in each]),
        (ctypes.c_void_p * len(pointers))(*pointers),
    )
