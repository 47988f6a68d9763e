"""Asks a habitus server about one customer and prints the answer.

README.md beside this file says how to make the stubs that this imports.
"""

import argparse
import sys

import grpc

from habitus.v1 import prediction_service_pb2, prediction_service_pb2_grpc, types_pb2


def describe(prediction):
    """The answer as lines of text. A head that gives no number says why."""

    def status(head):
        return types_pb2.HeadStatus.Name(head.status).removeprefix("HEAD_STATUS_")

    segment, value, churn = prediction.segment, prediction.value, prediction.churn
    yield f"customer {prediction.customer_id}, as of {prediction.as_of.ToJsonString()}"
    yield f"answered by {prediction.model}@{prediction.model_version}"
    yield f"segment: {status(segment)} {segment.segment_id} {segment.segment_name}".rstrip()
    # Absent reads as False: k-means and value tiers have no densities, and say nothing.
    if segment.noise:
        yield "  unlike the customers that the segments were learned from"
    # HasField tells a number that is absent from one that is 0.
    if value.HasField("ltv"):
        interval = f"{value.ltv_low:.2f} to {value.ltv_high:.2f}"
        yield f"spend within {value.horizon_days} days: {value.ltv:.2f} {value.currency_code} ({interval})"
    else:
        yield f"spend: {status(value)}"
    if churn.HasField("probability"):
        yield f"no purchase within {churn.horizon_days} days: {churn.probability:.1%}"
        for reason in churn.reasons:
            yield f"  {reason.feature}: {reason.log_odds:+.2f} log-odds"
    else:
        yield f"churn: {status(churn)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("customer_id", nargs="?", default="1")
    parser.add_argument("--address", default="127.0.0.1:50051")
    arguments = parser.parse_args()
    with grpc.insecure_channel(arguments.address) as channel:
        client = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = prediction_service_pb2.GetPredictionRequest(customer_id=arguments.customer_id)
        try:
            response = client.GetPrediction(request, timeout=5)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")
    print(*describe(response.prediction), sep="\n")
    print(f"request id {response.request_id}")


if __name__ == "__main__":
    main()
