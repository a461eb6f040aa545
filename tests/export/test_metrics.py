"""Offline figures on numbers small enough to count."""

import numpy as np
import pytest

from export.metrics import figures, gauc


def test_gauc_weighs_users_by_impressions():
    user = np.array([1, 1, 2, 2, 2, 2])
    label = np.array([1, 0, 1, 0, 0, 0], np.float32)
    score = np.array([0.9, 0.1, 0.5, 0.6, 0.4, 0.3], np.float32)  # user 1: AUC 1, user 2: AUC 2/3
    assert gauc(user, label, score) == pytest.approx((2 * 1 + 4 * 2 / 3) / 6)


def test_gauc_leaves_users_with_one_class_out_of_both_sums():
    user = np.array([1, 1, 2, 2])
    label = np.array([1, 0, 1, 1], np.float32)
    assert gauc(user, label, np.array([0.9, 0.1, 0.2, 0.3], np.float32)) == 1.0


def test_gauc_is_nan_when_no_user_has_both_classes():
    assert np.isnan(gauc(np.array([1, 2]), np.array([1, 0], np.float32), np.array([0.9, 0.1], np.float32)))


def test_one_label_alone_has_no_auc_but_a_log_loss():
    result = figures(np.array([5, 5]), np.ones(2, np.float32), np.array([0.8, 0.9], np.float32))
    assert np.isnan(result.auc)
    assert result.log_loss == pytest.approx(-np.log([0.8, 0.9]).mean(), rel=1e-6)


def test_figures_count_impressions_and_users():
    result = figures(np.array([5, 5, 9]), np.array([1, 0, 0], np.float32), np.array([0.8, 0.2, 0.4], np.float32))
    assert (result.auc, result.impressions, result.users) == (1.0, 3, 2)
    assert result.log_loss == pytest.approx(-(2 * np.log(0.8) + np.log(0.6)) / 3, rel=1e-6)
