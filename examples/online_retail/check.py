"""Counts the lines of Online Retail again, with pandas and without habitus.

    python examples/online_retail/check.py online_retail.csv [AS_OF]
"""

import sys

import pandas

NO_GOODS = "POST,DOT,C2,BANK CHARGES,AMAZONFEE,S,CRUK,D,B,PADS,M,m".split(",")

lines = pandas.read_csv(sys.argv[1], dtype={"InvoiceNo": str, "StockCode": str, "CustomerID": str})
print(f"{len(lines):>9}  rows read")
if len(sys.argv) > 2:
    later = lines.InvoiceDate >= str(pandas.Timestamp(sys.argv[2]) + pandas.Timedelta(days=1))
    print(f"{later.sum():>9}  ignored: later than the as-of")
    lines = lines[~later]

known = lines[lines.CustomerID.notna()]
no_goods = known.StockCode.isin(NO_GOODS)
for_nothing = ~no_goods & (known.UnitPrice == 0)
goods = known[~no_goods & ~for_nothing].assign(
    refund=known.InvoiceNo.str.startswith("C") | (known.Quantity < 0)
)
fields = ["CustomerID", "InvoiceDate", "UnitPrice", "Quantity", "InvoiceNo", "StockCode", "refund"]
accepted = goods.drop_duplicates(fields)
orders = accepted.groupby(["CustomerID", "InvoiceNo", "refund"]).size()
of_several = orders[orders > 1]

print(f"{len(accepted):>9}  accepted")
print(f"{len(goods) - len(accepted):>9}  dropped: another row is equal in every field")
print(f"{(no_goods | for_nothing).sum():>9}  left out by a rule")
for code, count in known.StockCode[no_goods].value_counts().items():
    print(f"{count:>9}    {code}")
print(f"{for_nothing.sum():>9}    goods at the price 0")
print(f"{len(lines) - len(known):>9}  rejected: the customer is missing")
print(f"{of_several.sum():>9}  lines of {len(of_several)} orders of several")
print(f"{(orders == 1).sum():>9}  orders of one line")
print(f"{accepted.refund.sum():>9}  accepted lines of refunds")
print(f"{accepted.CustomerID.nunique():>9}  customers")
