"""Which scans are held out: folds of patients with lesions of all sizes in each, whatever the files are called."""


def folds(scans, count):
    """`count` lists of scans: ordered by lesion voxels they are dealt out there and back, as teams are picked."""
    dealt = [[] for _ in range(count)]
    ordered = sorted(scans, key=lambda scan: (-scan.counts["lesion"], scan.name))
    for place, scan in enumerate(ordered):
        turn, position = divmod(place, count)
        dealt[position if turn % 2 == 0 else count - 1 - position].append(scan)
    return dealt


def split(scans, fold):
    """(training, held-out) scans for `fold`, (k, n): the kth of n folds, from 1 on; k = 0 holds none out."""
    number, count = fold
    if number == 0:
        return scans, []
    held_out = folds(scans, count)[number - 1]
    if not held_out or len(held_out) == len(scans):
        raise ValueError(f"{len(scans)} scans in {count} folds: leaves none in one; give a second folder of held-out "
                         "scans, or --fold")  # fmt: skip
    return [scan for scan in scans if scan not in held_out], held_out
