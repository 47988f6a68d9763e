"""What MLServer is asked to serve, and how it is asked.

    python mlserver_model.py FOLDER GRPC_PORT HTTP_PORT METRICS_PORT

Writes a KMeans of scikit-learn with 8 clusters of 13 features and its settings into FOLDER, and the
bytes of a question about one customer beside them.
"""
import json, os, sys

import joblib, numpy
from mlserver.grpc import dataplane_pb2 as pb
from sklearn.cluster import KMeans

folder, grpc, http, metrics = sys.argv[1], *map(int, sys.argv[2:])
rows = numpy.random.default_rng(0).normal(size=(20_000, 13)).astype(numpy.float32)
joblib.dump(KMeans(8, n_init=1, random_state=0).fit(rows), os.path.join(folder, "kmeans.joblib"))
write = lambda name, text: open(os.path.join(folder, name), "w").write(json.dumps(text))
write("model-settings.json", {
    "name": "kmeans", "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": "./kmeans.joblib", "version": "v1"}})
# Its cheapest setting by far: a process of its own for each model makes a call dearer. It listens on
# every address unless told otherwise.
write("settings.json", {
    "host": "127.0.0.1", "grpc_port": grpc, "http_port": http, "metrics_port": metrics,
    "parallel_workers": 0, "debug": False, "use_structured_logging": False})
tensor = pb.ModelInferRequest.InferInputTensor(
    name="x", datatype="FP32", shape=[1, 13],
    contents=pb.InferTensorContents(fp32_contents=rows[0].tolist()))
question = pb.ModelInferRequest(model_name="kmeans", model_version="v1", inputs=[tensor])
open(os.path.join(folder, "question.bin"), "wb").write(question.SerializeToString())
