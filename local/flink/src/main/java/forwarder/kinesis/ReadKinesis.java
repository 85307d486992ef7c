package forwarder.kinesis;

import java.net.URI;
import java.util.HashMap;
import java.util.Map;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.expansion.ExternalTransformRegistrar;
import org.apache.beam.sdk.io.Read;
import org.apache.beam.sdk.io.UnboundedSource;
import org.apache.beam.sdk.io.aws2.common.ClientConfiguration;
import org.apache.beam.sdk.io.aws2.kinesis.KinesisIO;
import org.apache.beam.sdk.io.aws2.kinesis.KinesisRecord;
import org.apache.beam.sdk.runners.TransformHierarchy;
import org.apache.beam.sdk.transforms.ExternalTransformBuilder;
import org.apache.beam.sdk.transforms.PTransform;
import org.apache.beam.sdk.values.KV;
import org.apache.beam.sdk.values.PBegin;
import org.apache.beam.sdk.values.PCollection;
import org.joda.time.Duration;
import org.joda.time.Instant;
import software.amazon.awssdk.regions.Region;
import software.amazon.kinesis.common.InitialPositionInStream;

/**
 * Beam's Kinesis source for Python, as KV (shard id:sequence number, data).
 *
 * <p>Not under the URN of Beam's own registrar, which demands an AWS key: here whoever reads uses the default chain.
 */
public final class ReadKinesis implements ExternalTransformRegistrar {
  public static final String URN = "session_forwarder:transform:kinesis_read:v1";

  @Override
  public Map<String, ExternalTransformBuilder<?, ?, ?>> knownBuilderInstances() {
    Map<String, ExternalTransformBuilder<?, ?, ?>> builders = new HashMap<>();
    builders.put(URN, new Builder());
    return builders;
  }

  /** What Python sends; the names are those of Beam's ReadDataFromKinesis. Set by Beam, by reflection. */
  public static final class Configuration {
    private String streamName;
    private String region;
    private String serviceEndpoint;
    private String initialPositionInStream;
    private Long initialTimestampInStream;
    private Long watermarkIdleDurationThreshold;

    public void setStreamName(String value) {
      streamName = value;
    }

    public void setRegion(String value) {
      region = value;
    }

    public void setServiceEndpoint(String value) {
      serviceEndpoint = value;
    }

    public void setInitialPositionInStream(String value) {
      initialPositionInStream = value;
    }

    public void setInitialTimestampInStream(Long value) {
      initialTimestampInStream = value;
    }

    public void setWatermarkIdleDurationThreshold(Long value) {
      watermarkIdleDurationThreshold = value;
    }
  }

  static final class Builder
      implements ExternalTransformBuilder<Configuration, PBegin, PCollection<KV<String, byte[]>>> {
    @Override
    public PTransform<PBegin, PCollection<KV<String, byte[]>>> buildExternal(Configuration given) {
      ClientConfiguration.Builder client = ClientConfiguration.builder().region(Region.of(given.region));
      if (given.serviceEndpoint != null) {
        client.endpoint(URI.create(given.serviceEndpoint));
      }
      KinesisIO.Read read =
          KinesisIO.read()
              .withStreamName(given.streamName)
              .withClientConfiguration(client.build())
              .withArrivalTimeWatermarkPolicy(Duration.millis(given.watermarkIdleDurationThreshold));
      if (given.initialTimestampInStream != null) {
        read = read.withInitialTimestampInStream(Instant.ofEpochMilli(given.initialTimestampInStream));
      } else {
        read =
            read.withInitialPositionInStream(InitialPositionInStream.valueOf(given.initialPositionInStream));
      }
      return Read.from(new DataSource<>(sourceOf(read)));
    }
  }

  /** The source inside the transform, which Beam shows to nobody but a pipeline. */
  private static UnboundedSource<KinesisRecord, ?> sourceOf(KinesisIO.Read read) {
    Pipeline pipeline = Pipeline.create();
    pipeline.apply(read);
    Finder finder = new Finder();
    pipeline.traverseTopologically(finder);
    return finder.found;
  }

  private static final class Finder extends Pipeline.PipelineVisitor.Defaults {
    private UnboundedSource<KinesisRecord, ?> found;

    @Override
    @SuppressWarnings("unchecked")
    public CompositeBehavior enterCompositeTransform(TransformHierarchy.Node node) {
      if (node.getTransform() instanceof Read.Unbounded) {
        found = ((Read.Unbounded<KinesisRecord>) node.getTransform()).getSource();
      }
      return CompositeBehavior.ENTER_TRANSFORM;
    }

    @Override
    @SuppressWarnings("unchecked")
    public void visitPrimitiveTransform(TransformHierarchy.Node node) {
      if (node.getTransform() instanceof Read.Unbounded) {
        found = ((Read.Unbounded<KinesisRecord>) node.getTransform()).getSource();
      }
    }
  }
}
