"""What skl2onnx is taught: XGBoost and LightGBM estimators, alone or inside pipelines, and what it rounds to 32 bits by itself."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any


@cache
def register() -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import get_converter, get_shape_calculator
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as of_classifier
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as of_regressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer

    from mlops.runtime.convert import histograms, imputers

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(
        HistGradientBoostingClassifier, "SlipwayHistClassifier", of_classifier, histograms.convert, options=options
    )
    update_registered_converter(HistGradientBoostingRegressor, "SlipwayHistRegressor", of_regressor, histograms.convert)
    known = sklearn_operator_name_map[SimpleImputer]
    update_registered_converter(
        SimpleImputer, "SlipwayImputer", get_shape_calculator(known), imputers.converter(get_converter(known))
    )
    _register_xgboost(options, of_classifier, of_regressor)
    _register_lightgbm(options, of_classifier, of_regressor)


def _register_xgboost(options: object, of_classifier: object, of_regressor: object) -> None:
    from skl2onnx import update_registered_converter

    try:
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    except ImportError:
        return

    def convert(scope: Any, operator: Any, container: Any) -> None:
        operator.raw_operator = _nameless(operator.raw_operator)
        convert_xgboost(scope, operator, container)

    for kind in (xgboost.XGBClassifier, xgboost.XGBRFClassifier):
        update_registered_converter(kind, kind.__name__, of_classifier, convert, options=options)
    for kind in (xgboost.XGBRegressor, xgboost.XGBRFRegressor):
        update_registered_converter(kind, kind.__name__, of_regressor, convert)


def _nameless(estimator: Any) -> Any:
    """The same estimator with columns called f0, f1, ...: the converter knows no others, and people fit frames."""
    plain = copy.copy(estimator)
    plain._Booster = estimator.get_booster().copy()
    plain._Booster.feature_names = None
    return plain


def _register_lightgbm(options: object, of_classifier: object, of_regressor: object) -> None:
    from skl2onnx import update_registered_converter

    from mlops.runtime.convert.lightgbm import convert_wrapper

    try:
        import lightgbm
    except ImportError:
        return
    update_registered_converter(
        lightgbm.LGBMClassifier, "LGBMClassifier", of_classifier, convert_wrapper, options=options
    )
    update_registered_converter(lightgbm.LGBMRegressor, "LGBMRegressor", of_regressor, convert_wrapper)
