"""Raw, attached NRRD files with nothing but the standard library.

Just what the golden files and the program `segment` use: one file, `encoding: raw`, either byte order. Samples
come as an `array.array` (fastest axis first, as in the file) in the byte order of this machine.
"""

import array
import sys

TYPES = {  # NRRD type -> (array type code, NRRD's other names that we meet)
    "int8": ("b", ("signed char", "int8_t")),
    "uint8": ("B", ("uchar", "unsigned char", "uint8_t")),
    "int16": ("h", ("short", "signed short", "int16_t")),
    "uint16": ("H", ("ushort", "unsigned short", "uint16_t")),
    "int32": ("i", ("int", "signed int", "int32_t")),
    "float": ("f", ()),
    "double": ("d", ()),
}


def read(path):
    """(fields, samples): header fields by name, `sizes` as a tuple of ints, and the samples."""
    with open(path, "rb") as file:
        content = file.read()
    head, separator, data = content.partition(b"\n\n")
    lines = head.decode("ascii").splitlines()
    if not separator or not lines or not lines[0].startswith("NRRD000"):
        raise ValueError(f"{path}: not an attached NRRD file")
    fields = {}
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip()] = value.lstrip("=").strip()
    if fields.get("encoding") != "raw":
        raise ValueError(f"{path}: encoding {fields.get('encoding')}, expected raw")
    code = type_code(fields["type"])
    fields["sizes"] = tuple(int(word) for word in fields["sizes"].split())
    samples = array.array(code)
    samples.frombytes(data)
    if fields.get("endian", sys.byteorder) != sys.byteorder:
        samples.byteswap()
    count = 1
    for size in fields["sizes"]:
        count *= size
    if len(samples) != count:
        raise ValueError(f"{path}: {len(samples)} samples, the header says {count}")
    return fields, samples


def type_code(name):
    """Type code of `array` for a type of NRRD."""
    for canonical, (code, others) in TYPES.items():
        if name == canonical or name in others:
            return code
    raise ValueError(f"NRRD type {name}: not supported here")


def write(path, kind, sizes, data, endian=sys.byteorder, fields=()):
    """Writes `data` (bytes that are already in byte order `endian`) of NRRD type `kind`.

    `fields`: further header lines as (name, value).
    """
    lines = ["NRRD0004", f"type: {kind}", f"dimension: {len(sizes)}", "sizes: " + " ".join(map(str, sizes))]
    lines += [f"{name}: {value}" for name, value in fields]
    lines += [f"endian: {endian}", "encoding: raw"]
    with open(path, "wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode("ascii"))
        file.write(data)


def ct_fields(spacing=(0.75, 0.8, 2.5), origin=(-12.5, 30.0, -101.25)):
    """Header lines of a CT volume: patient space, anisotropic spacing, an origin."""
    x, y, z = spacing
    return (
        ("space", "left-posterior-superior"),
        ("space directions", f"({x},0,0) (0,{y},0) (0,0,{z})"),
        ("kinds", "domain domain domain"),
        ("space origin", "({},{},{})".format(*origin)),
    )
