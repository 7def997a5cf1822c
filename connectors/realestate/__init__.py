"""不动产登记 and pre-sale licences (商品房预售许可). It joined fully."""
