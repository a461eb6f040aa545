"""OpenTelemetry: a span for each call of scoring, one below it for each stage, sent by OTLP over HTTP.

Imported where CTR_TRACES_URL is set only. Spans are made when a call has ended, from the times that were taken anyway, so the
path of a request knows nothing of them. A caller's `traceparent` decides whether its call is kept, and is the parent.
"""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from service.finished import Finished
from service.version import VERSION

SEND_S = 5.0  # longest wait for the collector, in a thread of its own: calls never wait for it


class Traces:
    """Sends spans of a share of the calls, in batches; what a collector that is away does not take is dropped."""

    def __init__(self, url: str, share: float) -> None:
        resource = Resource.create({"service.name": "longtrail", "service.version": VERSION})
        self._provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)), resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, timeout=SEND_S)))
        self._tracer = self._provider.get_tracer("longtrail", VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def __call__(self, call: Finished) -> None:
        """Make the spans of a call that has ended. Cost: 10 us for one that is not in the sample, 0.3 ms for one that is."""
        end = int(call.ended * 1e9)
        begin = end - int(call.total_s * 1e9)
        parent = self._propagator.extract(call.headers)
        span = self._tracer.start_span(f"POST {call.route}", parent, SpanKind.SERVER, start_time=begin)
        if not span.is_recording():
            return
        span.set_attributes(_attributes(call))
        if call.status >= 500:
            span.set_status(Status(StatusCode.ERROR, call.error))
        within, at = set_span_in_context(span), begin
        for stage, seconds in call.stages.items():
            if seconds:
                self._tracer.start_span(stage, within, start_time=at).end(at + int(seconds * 1e9))
                at += int(seconds * 1e9)
        span.end(end)

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()


def _attributes(call: Finished) -> dict[str, AttributeValue]:
    """Nothing of the user."""
    attributes: dict[str, AttributeValue] = {
        "http.request.method": "POST", "http.route": call.route, "http.response.status_code": call.status,
        "ctr.request_id": call.request_id,
    }  # fmt: skip
    if call.error:
        attributes["error.type"] = call.error
    if call.asked:
        attributes["ctr.candidates"] = len(call.asked.item_ids)
    if call.answered:
        attributes |= {
            "ctr.model": call.answered.model, "ctr.version": call.answered.version, "ctr.behaviours": call.answered.behaviours,
            "ctr.degraded": call.answered.degraded,
        }  # fmt: skip
    return attributes
