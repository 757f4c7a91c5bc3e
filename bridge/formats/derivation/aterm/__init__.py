r"""Derivations as ATerm: the contents of `.drv` files.

    drv      Derive([output,…],[inputDrv,…],["src",…],"system","builder",["arg",…],[("key","value"),…])
    output   ("name","path","[r:|text:|git:]algo","hex hash")   floating: no path, no hash; deferred: all
             empty; impure: the hash is the word impure
    inputDrv ("/nix/store/….drv",["output",…])
    text     \\ \" \n \r \t are escaped, every other byte stands for itself; lists are sorted bytewise

Where outputs of outputs are used (experimental feature `dynamic-derivations`), the versioned form:

    drv      DrvWithVersion("xp-dyn-drv",[output,…],… as above
    inputDrv ("/nix/store/….drv",used)
    used     ["output",…]   or   (["output",…],[("output",used),…])

Source: Nix manual, "Derivation ATerm format" (`protocols/derivation-aterm.md`).
"""

from .notation import DRV_SUFFIX, method_algorithm, split_method_algorithm
from .read import parse_aterm
from .write import unparse, unparse_parts

__all__ = [
    "DRV_SUFFIX",
    "method_algorithm",
    "parse_aterm",
    "split_method_algorithm",
    "unparse",
    "unparse_parts",
]
