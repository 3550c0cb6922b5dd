"""Settings for all tests."""

import hypothesis
import torch

torch.set_num_threads(1)  # tiny tensors: threads cost more than they bring
hypothesis.settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("suite")
