"""Offline figures on numbers small enough to count."""

import numpy as np
import pytest

from export.metrics import calibration, figures, gauc


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


def test_calibration_compares_the_mean_score_with_the_share_of_positives_in_bins_of_equal_mass():
    score = np.array([0.6, 0.1, 0.9, 0.2], np.float32)
    label = np.array([1, 0, 1, 1], np.float32)
    result = calibration(label, score, bins=2)  # bins {0.1, 0.2} and {0.6, 0.9}
    assert result.predicted == pytest.approx([0.15, 0.75], rel=1e-6)
    assert result.observed == [0.5, 1.0]
    assert result.impressions == [2, 2]
    assert result.ratio == pytest.approx(1.8 / 3, rel=1e-6)
    assert result.error == pytest.approx((0.35 + 0.25) / 2, rel=1e-6)


def test_equal_scores_share_a_bin_whatever_the_order_of_their_labels():
    label = np.repeat([0, 1], 50).astype(np.float32)
    result = calibration(label, np.full(100, 0.5, np.float32), bins=10)
    assert (result.observed, result.impressions, result.error) == ([0.5], [100], 0.0)


def test_without_a_positive_there_is_no_ratio():
    assert np.isnan(calibration(np.zeros(4, np.float32), np.full(4, 0.2, np.float32)).ratio)


def test_no_impression_has_no_figures():
    result = figures(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert np.isnan([result.auc, result.gauc, result.log_loss]).all()
    assert (result.impressions, result.users) == (0, 0)
