"""For test_processes.py: an epoch on patches that are the same for any number of processes; makes OUT/rank-N.pt."""

from training_case import Group, np, torch, train  # first: it says where the training programs are

import trainer

torch.set_num_threads(1)


def plain(windows, side, how, classes=None, labels=1):
    """The middle of each window, as it is."""
    rim, middle = how.margin(side), how.margin(side) + side // 2
    return windows[:, :, rim:-rim, rim:-rim], classes[:, middle, middle, None, None].long()


trainer.augmented = plain
group = Group("cpu")
training = trainer.Training(train.checked(train.parser().parse_args()), group)
sampler, draw = training.sampler, training.sampler.batch
sampler.rng = np.random.default_rng(5)
sampler.batch = lambda size: [part[group.rank :: group.size] for part in draw(size * group.size)]
before = {name: value.clone() for name, value in training.model.state_dict().items()}
loss = training.train_epoch("epoch")
torch.save(
    dict(loss=loss, before=before, weights=training.model.state_dict(), scores=training.validated()),
    training.args.out / f"rank-{group.rank}.pt",
)
group.close()
