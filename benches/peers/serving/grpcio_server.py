"""What a user would write today: a synchronous grpcio server that looks a customer's numbers up and
answers with the messages of habitus.v1.

    python grpcio_server.py PORT CUSTOMERS FOLDER

FOLDER holds the modules that grpcio-tools made of the definitions. Nothing is computed: the model's
numbers stand in a dictionary, as if a nightly job had put them there.
"""
import sys
from concurrent import futures

sys.path.insert(0, sys.argv[3])
import grpc
from habitus.v1 import prediction_service_pb2 as pb, prediction_service_pb2_grpc as rpc
from habitus.v1 import types_pb2 as t

KNOWN = {f"c{i:07}": (i % 8, (i % 1000) / 1000, float(i % 500)) for i in range(int(sys.argv[2]))}
OK = t.HEAD_STATUS_OK


class Predictions(rpc.PredictionServiceServicer):
    def GetPrediction(self, request, context):
        known = KNOWN.get(request.customer_id)
        if known is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "nobody knows them")
        cluster, churn, value = known
        answer = pb.GetPredictionResponse(
            request_id="0123456789abcdef0123456789abcdef",
            prediction=t.Prediction(
                customer_id=request.customer_id, model="serving",
                model_version="2023-11-14-0123456789ab", store_sequence=20_000_000,
                segment=t.SegmentHead(
                    status=OK, segment_id="seg_0123456789", segment_name="Frequent, top value",
                    cluster=cluster, probability=churn, tier="A", rfm="5-3-4", noise=False),
                value=t.ValueHead(
                    status=OK, horizon_days=90, ltv=value, ltv_low=value / 2, ltv_high=value * 2,
                    interval_level=0.8, currency_code="USD", expected_purchases=2.5),
                churn=t.ChurnHead(
                    status=OK, horizon_days=90, probability=churn, percentile=churn,
                    p_alive=1 - churn)))
        answer.prediction.as_of.FromMilliseconds(1_700_000_000_123)
        answer.prediction.newest_event.FromMilliseconds(1_700_000_000_123)
        return answer


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
rpc.add_PredictionServiceServicer_to_server(Predictions(), server)
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
