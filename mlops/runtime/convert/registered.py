"""What teaches skl2onnx about XGBoost and LightGBM estimators, alone or inside pipelines."""

from __future__ import annotations

from functools import cache


@cache
def register() -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as of_classifier
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as of_regressor

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    try:
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    except ImportError:
        pass
    else:
        for kind in (xgboost.XGBClassifier, xgboost.XGBRFClassifier):
            update_registered_converter(kind, kind.__name__, of_classifier, convert_xgboost, options=options)
        for kind in (xgboost.XGBRegressor, xgboost.XGBRFRegressor):
            update_registered_converter(kind, kind.__name__, of_regressor, convert_xgboost)
    try:
        import lightgbm

        from mlops.runtime.convert.lightgbm import convert_wrapper
    except ImportError:
        return
    update_registered_converter(
        lightgbm.LGBMClassifier, "LGBMClassifier", of_classifier, convert_wrapper, options=options
    )
    update_registered_converter(lightgbm.LGBMRegressor, "LGBMRegressor", of_regressor, convert_wrapper)
