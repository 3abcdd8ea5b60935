import {
  type DotfileView,
  dotfilePathSchema,
  setBootstrapScriptSchema,
  type WriteDotfileInput,
  writeDotfileSchema,
} from '@backend.ai/contract';
import { AppError, hasCode } from '@backend.ai/core';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { invalidFields, type Params, readParams, sendJson } from '../parameters.ts';
import { edgeOf } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';

/** What sessions of a key pair begin with, in the official forms. */
export function registerUserConfigRoutes(app: FastifyInstance, { services }: RouteContext): void {
  app.get('/user-config/dotfiles', async (request, reply) => {
    const { callContext } = edgeOf(request);
    const params = readParams(request);
    const path = params.text('path');
    params.check();
    if (path === undefined) {
      const files = await services.dotfile.list(callContext);
      return sendJson(
        reply,
        200,
        files.map(({ content: data, permission, path: at }) => ({ path: at, permission, data })),
      );
    }
    const file: DotfileView = await services.dotfile.get({ path }, callContext);
    return sendJson(reply, 200, { path: file.path, perm: file.permission, data: file.content });
  });

  app.post('/user-config/dotfiles', async (request, reply) => {
    await services.dotfile.create(readDotfile(request), edgeOf(request).callContext).catch((thrown: unknown) => {
      if (!hasCode(thrown, 'object-exists')) throw thrown;
      // Official clients look for status 400 and these words.
      throw new AppError('invalid-input', 'Dotfile already exists.', { cause: thrown });
    });
    return sendJson(reply, 200, {});
  });

  app.patch('/user-config/dotfiles', async (request, reply) => {
    await services.dotfile.modify(readDotfile(request), edgeOf(request).callContext);
    return sendJson(reply, 200, {});
  });

  app.delete('/user-config/dotfiles', async (request, reply) => {
    const params = readParams(request);
    const path = params.requiredText('path');
    params.check();
    await services.dotfile.delete({ path: checked(dotfilePathSchema, path, 'path') }, edgeOf(request).callContext);
    return sendJson(reply, 200, { success: true });
  });

  app.get('/user-config/bootstrap-script', async (request, reply) => {
    const { script } = await services.dotfile.bootstrapScript(edgeOf(request).callContext);
    return sendJson(reply, 200, script);
  });

  app.post('/user-config/bootstrap-script', async (request, reply) => {
    const params = readParams(request);
    const script = params.text('script') ?? '';
    params.check();
    await services.dotfile.setBootstrapScript(
      checked(setBootstrapScriptSchema, { script }, 'script'),
      edgeOf(request).callContext,
    );
    return sendJson(reply, 200, {});
  });
}

function readDotfile(request: FastifyRequest): WriteDotfileInput {
  const params: Params = readParams(request);
  const raw = {
    path: params.requiredText('path'),
    permission: params.requiredText('permission'),
    content: params.requiredText('data'),
  };
  params.check();
  return checked(writeDotfileSchema, raw, 'input');
}

function checked<S extends z.ZodType>(schema: S, value: unknown, whole: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const name = ([first]: readonly PropertyKey[]): string =>
    first === undefined ? whole : first === 'content' ? 'data' : String(first);
  throw invalidFields(Object.fromEntries(result.error.issues.map(({ path, message }) => [name(path), message])));
}
