// What the page reads of one streamed answer, cut at every byte; of one with an error; of one that breaks off.
async () => {
  const { readAnswer } = await import("./web/answer_stream.js");
  const chunk = (value) => `data: ${JSON.stringify(value)}\n\n`;
  const piece = (content) => chunk({ choices: [{ delta: { content } }] });
  const last = { choices: [{ delta: {}, finish_reason: "stop" }], edgestream: { turn_id: "t1" } };
  const bytes = (text) => new TextEncoder().encode(text);
  const whole = bytes(
    `: hi\r\n\r\n${piece("Grün")}${piece(" – ja")}${chunk(last)}data: [DONE]\n\n`,
  );
  async function read(...parts) {
    let text = "";
    const body = new ReadableStream({
      start(sink) {
        for (const part of parts) sink.enqueue(part);
        sink.close();
      },
    });
    try {
      const extension = await readAnswer(new Response(body), (more) => (text += more));
      return `${text}|${extension.turn_id}`;
    } catch (fault) {
      return `${fault.name}: ${fault.message} ${fault.hint}`;
    }
  }
  const texts = new Set();
  for (let at = 0; at <= whole.length; at += 1) {
    texts.add(await read(whole.slice(0, at), whole.slice(at)));
  }
  const error = chunk({ error: { message: "too many", hint: "wait" } });
  return {
    texts: [...texts],
    error: await read(bytes(piece("G") + error)),
    broken: await read(bytes(piece("G"))),
  };
}
