"""The product's addresses and the kit page, which the product itself serves under DEBUG only."""

from django.urls import path

from mlops import urls as product
from mlops.core.kit import kit

handler400, handler403, handler404, handler500 = (
    product.handler400,
    product.handler403,
    product.handler404,
    product.handler500,
)
urlpatterns = [path("ui/kit/", kit), *product.urlpatterns]
