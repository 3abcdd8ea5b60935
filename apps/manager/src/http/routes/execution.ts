import { executeInputSchema } from '@backend.ai/contract';
import { hasCode } from '@backend.ai/core';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { invalidFields, type Params, readParams, sendJson, sessionOf } from '../parameters.ts';
import { edgeOf } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';
import { batchOptionsSchema, kernelGone, runAnswer } from './session-shapes.ts';

/** Output is collected for so long before a run's step is answered. */
const flushMs = 2000;

export function registerExecutionRoutes(app: FastifyInstance, { services }: RouteContext): void {
  app.post('/session/:session', async (request, reply) => {
    const session = sessionOf(request);
    const params = readParams(request);
    if (!params.has('runId')) params.problem('runId', 'is required');
    const mode = params.requiredText('mode');
    const runId = params.text('runId');
    if (runId === undefined && (mode === 'continue' || mode === 'input')) params.problem('runId', 'is required');
    params.check();
    if (mode === 'complete') return complete(request, reply, session, params);

    const raw = {
      mode,
      runId: runId ?? null,
      code: params.text('code'),
      options: mode === 'batch' ? batchOptions(params.value('options')) : {},
      flushMs,
      holdMs: flushMs,
    };
    params.check();
    const checked = executeInputSchema.safeParse(raw);
    if (!checked.success)
      throw invalidFields(
        Object.fromEntries(checked.error.issues.map((issue) => [issue.path.join('.') || 'input', issue.message])),
      );
    try {
      const result = await services.session.execute({ ...checked.data, session }, edgeOf(request).callContext);
      return sendJson(reply, 200, { result: runAnswer(result) });
    } catch (error) {
      // In the middle of a run the end of the kernel is an outcome; at its beginning it is an error.
      const gone = hasCode(error, 'kernel-not-found', 'kernel-lost', 'session-not-running');
      if (gone && runId !== undefined && (mode === 'continue' || mode === 'input'))
        return sendJson(reply, 200, { result: kernelGone(runId) });
      throw error;
    }
  });

  app.post('/session/:session/complete', (request, reply) =>
    complete(request, reply, sessionOf(request), readParams(request)),
  );

  app.post('/session/:session/interrupt', async (request, reply) => {
    await services.session.interrupt({ session: sessionOf(request) }, edgeOf(request).callContext);
    return reply.code(204).send();
  });

  async function complete(
    request: FastifyRequest,
    reply: FastifyReply,
    session: string,
    params: Params,
  ): Promise<FastifyReply> {
    // `options` describe the cursor's surroundings; the code ends at the cursor, which is all that is needed.
    const code = params.text('code') ?? '';
    params.check();
    const { completions } = await services.session.complete({ session, code }, edgeOf(request).callContext);
    return sendJson(reply, 200, { result: { status: 'finished', completions } });
  }
}

function batchOptions(value: unknown): z.infer<typeof batchOptionsSchema> {
  const read = batchOptionsSchema.safeParse(value ?? {});
  if (read.success) return read.data;
  const problems = read.error.issues.map(({ path, message }) => [['options', ...path].join('.'), message]);
  throw invalidFields(Object.fromEntries(problems));
}
