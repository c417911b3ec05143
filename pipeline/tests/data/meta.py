"""Makes meta.mat: a small one after that of the ImageNet devkit, `python3 meta.py` with SciPy.

The ids of the eight classes are in another order than their synsets; two synsets above them are no
classes.
"""

import numpy as np
from scipy.io import savemat

leaves = "n02119789 n01440764 n02102040 n03000684 n01443537 n02979186 n03028079 n02100735".split()
inner = ["n00001740", "n01861778"]
fields = "ILSVRC2012_ID WNID words gloss num_children children wordnet_height num_train_images".split()
synsets = np.empty((len(leaves) + len(inner), 1), dtype=[(field, object) for field in fields])
for row, wnid in enumerate(leaves + inner):
    children = [] if wnid in leaves else [1.0, 2.0, 3.0]
    synsets[row, 0] = (
        float(row + 1), wnid, f"words of {wnid}", "a gloss", float(len(children)),
        np.array([children]), 0.0, 1300.0,
    )
savemat("meta.mat", {"other": np.arange(3.0), "synsets": synsets}, do_compression=True)
