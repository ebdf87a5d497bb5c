"""Exit code 0 when the appliance says SERVING on its health port; for the container's HEALTHCHECK.

healthcheck.py [ADDRESS [SERVICE]]; an empty service asks for the appliance as a whole.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def main(address: str = "127.0.0.1:7444", service: str = "") -> int:
    """Ask once."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=4
            )
        except grpc.RpcError as error:
            print(f"no answer from {address}: {error.code().name}", file=sys.stderr)
            return 1
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    print(status)
    return int(answer.status != health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
