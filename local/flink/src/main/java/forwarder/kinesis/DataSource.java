package forwarder.kinesis;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.beam.sdk.coders.ByteArrayCoder;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.coders.KvCoder;
import org.apache.beam.sdk.coders.StringUtf8Coder;
import org.apache.beam.sdk.io.UnboundedSource;
import org.apache.beam.sdk.io.aws2.kinesis.KinesisRecord;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.sdk.values.KV;
import org.joda.time.Instant;

/**
 * Beam's Kinesis source with elements that other languages can decode.
 *
 * <p>A source and not a step after one: the runner itself runs a source, a step in Java would need a worker in Java.
 */
final class DataSource<M extends UnboundedSource.CheckpointMark> extends UnboundedSource<KV<String, byte[]>, M> {
  private final UnboundedSource<KinesisRecord, M> records;

  DataSource(UnboundedSource<KinesisRecord, M> records) {
    this.records = records;
  }

  @Override
  public List<DataSource<M>> split(int desired, PipelineOptions options) throws Exception {
    List<DataSource<M>> parts = new ArrayList<>();
    for (UnboundedSource<KinesisRecord, M> part : records.split(desired, options)) {
      parts.add(new DataSource<>(part));
    }
    return parts;
  }

  @Override
  public UnboundedReader<KV<String, byte[]>> createReader(PipelineOptions options, M mark) throws IOException {
    return new Reader(records.createReader(options, mark));
  }

  @Override
  public Coder<M> getCheckpointMarkCoder() {
    return records.getCheckpointMarkCoder();
  }

  @Override
  public boolean requiresDeduping() {
    return records.requiresDeduping();
  }

  @Override
  public Coder<KV<String, byte[]>> getOutputCoder() {
    return KvCoder.of(StringUtf8Coder.of(), ByteArrayCoder.of());
  }

  private final class Reader extends UnboundedReader<KV<String, byte[]>> {
    private final UnboundedReader<KinesisRecord> reader;

    Reader(UnboundedReader<KinesisRecord> reader) {
      this.reader = reader;
    }

    @Override
    public boolean start() throws IOException {
      return reader.start();
    }

    @Override
    public boolean advance() throws IOException {
      return reader.advance();
    }

    @Override
    public KV<String, byte[]> getCurrent() {
      KinesisRecord record = reader.getCurrent();
      String place = record.getShardId() + ":" + record.getSequenceNumber();
      // Of an aggregated record, which Beam has taken apart, only the first has the place of a record that was alone.
      long number = record.getSubSequenceNumber();
      return KV.of(number == 0 ? place : place + ":" + number, record.getDataAsBytes());
    }

    @Override
    public byte[] getCurrentRecordId() {
      return reader.getCurrentRecordId();
    }

    @Override
    public Instant getCurrentTimestamp() {
      return reader.getCurrentTimestamp();
    }

    @Override
    public Instant getWatermark() {
      return reader.getWatermark();
    }

    @Override
    public CheckpointMark getCheckpointMark() {
      return reader.getCheckpointMark();
    }

    @Override
    public long getSplitBacklogBytes() {
      return reader.getSplitBacklogBytes();
    }

    @Override
    public DataSource<M> getCurrentSource() {
      return DataSource.this;
    }

    @Override
    public void close() throws IOException {
      reader.close();
    }
  }
}
