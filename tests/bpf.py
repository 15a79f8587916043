"""The kernel's BPF machine, as far as our filters use it: what a filter answers to a call, on any architecture, without that machine."""

from __future__ import annotations

from mlops.runtime import seccomp, syscalls

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMPS = {
    0x15: lambda accumulator, constant: accumulator == constant,
    0x35: lambda accumulator, constant: accumulator >= constant,
    0x45: lambda accumulator, constant: bool(accumulator & constant),
}
PID = 4242  # the process that the filters of tests are made for


def verdict(
    machine: str,
    call: str | int,
    *args: int,
    arch: int | None = None,
    gpu: bool = False,
    forks: bool = False,
) -> int:
    """The filter's answer to ``call`` (a name, or a number) with its arguments, on ``machine``."""
    number = syscalls.NUMBERS[call][syscalls.ARCHITECTURES[machine]] if isinstance(call, str) else call
    assert number is not None
    data = {0: number, 4: arch or syscalls.AUDIT_ARCH[machine]}
    for index, value in enumerate((*args, *[0] * (6 - len(args)))):
        data[16 + 8 * index], data[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
    return answer(seccomp.assemble(PID, machine=machine, gpu=gpu, forks=forks), data)


def answer(program: list[seccomp.Instruction], data: dict[int, int]) -> int:
    """Run ``program`` over a call's record: {offset: 32-bit word}."""
    at, accumulator = 0, 0
    while True:
        code, yes, no, constant = program[at]
        at += 1
        if code == _LOAD:
            accumulator = data[constant]
        elif code == _AND:
            accumulator &= constant
        elif code == _RETURN:
            return constant
        else:
            at += yes if _JUMPS[code](accumulator, constant) else no
