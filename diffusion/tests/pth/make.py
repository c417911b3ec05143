"""Writes the checkpoint files of this folder with PyTorch itself, and expected.json, what they hold.

    python make.py

Written by PyTorch 2.11. The names of the modules Net and Attack stand in the files; nothing that
reads them has these classes.
"""

import collections
import json
import os
import warnings

import torch
from torch import nn

warnings.filterwarnings("ignore")
os.chdir(os.path.dirname(os.path.abspath(__file__)))
KINDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "Bool",
}


# Made like this, a class has no source that torch could put into the file.
Net = type("Net", (nn.Linear,), {})


class Attack:
    def __reduce__(self):
        return os.system, ("touch /tmp/pth-was-executed",)


def describe(tensors):
    return {
        name: {
            "shape": list(tensor.shape),
            "kind": KINDS[tensor.dtype],
            "data": bytes(
                tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
            ).hex(),
        }
        for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)
    }


torch.manual_seed(1)
base = torch.randn(3, 4)
parameter = nn.Parameter(torch.randn(2, 2).half())
parameter.note = "an attribute"
tensors = collections.OrderedDict(
    base=base,
    transposed=base.t(),
    row=base[1],
    column=base[:, 2],
    steps=base[::2, 1::2],
    permuted=torch.arange(24, dtype=torch.int16).reshape(2, 3, 4).permute(2, 0, 1)[1:, :, ::2],
    scalar=torch.tensor(2.5, dtype=torch.float64),
    empty=torch.zeros(0, 3),
    bf16=torch.randn(5).bfloat16(),
    i64=torch.arange(-2, 3),
    i32=torch.arange(-2, 3, dtype=torch.int32),
    i8=torch.arange(-2, 3, dtype=torch.int8)[1:],
    u8=torch.arange(5, dtype=torch.uint8).reshape(1, 5, 1),
    bool=torch.tensor([True, False, True]),
    parameter=parameter,
    plain_parameter=nn.Parameter(torch.ones(2)),
    step=7,
    note="no tensor",
)
# As torch's own state dicts have it: an attribute of the dictionary.
tensors._metadata = collections.OrderedDict({"": {"version": 1}})
small = collections.OrderedDict(weight=torch.arange(3.0), steps=torch.tensor(4))
other = {"weight": torch.arange(3.0) * 2}
old = {"_use_new_zipfile_serialization": False}

torch.save(tensors, "plain.pth")
torch.save(tensors, "plain_legacy.pth", **old)
torch.save(small, "protocol4.pth", pickle_protocol=4)
torch.save(small, "protocol5_legacy.pth", pickle_protocol=5, **old)
net = nn.Linear(2, 2)
optimizer = torch.optim.Adam(net.parameters())
net(torch.ones(1, 2)).sum().backward()
optimizer.step()
torch.save({"epoch": 3, "state_dict": small, "optimizer": optimizer.state_dict()}, "wrapped.pth")
torch.save({"epoch": 3, "state_dict": small}, "wrapped_legacy.pth", **old)
torch.save({"model": small, "ema": other, "epoch": 3}, "several_legacy.pth", **old)
torch.save(Net(1, 1), "module_legacy.pth", **old)
torch.save(Attack(), "attack.pth")
torch.save(Attack(), "attack_legacy.pth", **old)
torch.save({"weight": torch.arange(3.0), "attack": Attack()}, "attack_entry_legacy.pth", **old)
torch.save({"weight": torch.arange(3.0).expand(2, 3)}, "expanded_legacy.pth", **old)
torch.save({"weight": torch.ones(2, dtype=torch.complex64)}, "complex_legacy.pth", **old)
torch.save({"weight": torch.ones(2, dtype=torch.uint16)}, "uint16_legacy.pth", **old)
torch.save({"weight": torch.eye(2).to_sparse()}, "sparse_legacy.pth", **old)
torch.serialization.set_crc32_options(False)
torch.save(small, "unchecked.pth")
torch.serialization.set_crc32_options(True)
torch.jit.save(torch.jit.script(nn.Identity()), "script.pth")

with open("expected.json", "w") as file:
    weight = {"weight": torch.arange(3.0)}
    expected = {"plain": tensors, "small": small, "other": other, "weight": weight}
    json.dump({name: describe(value) for name, value in expected.items()}, file)
    file.write("\n")
