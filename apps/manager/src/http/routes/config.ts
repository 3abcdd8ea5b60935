import {
  type DotfileOwner,
  type DotfileView,
  dotfileOwnerSchema,
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

/** Whose files a call is about; absent: those of the key pair. */
type ReadOwner = (params: Params) => { owner?: DotfileOwner };

const ofDomain: ReadOwner = (params) => {
  const domain = params.requiredText('domain', 'domain_name');
  params.check();
  return { owner: checked(dotfileOwnerSchema, { domain }, 'domain') };
};

const ofProject: ReadOwner = (params) => {
  const project = params.requiredText('group', 'groupId', 'group_id', 'project', 'project_id');
  const domain = params.text('domain', 'domain_name');
  params.check();
  return { owner: checked(dotfileOwnerSchema, { project, domain }, 'group') };
};

/** What sessions begin with, in the official forms. */
export function registerConfigRoutes(app: FastifyInstance, context: RouteContext): void {
  registerDotfileRoutes(app, context, '/user-config/dotfiles', () => ({}));
  registerDotfileRoutes(app, context, '/domain-config/dotfiles', ofDomain);
  registerDotfileRoutes(app, context, '/group-config/dotfiles', ofProject);
  registerBootstrapScriptRoutes(app, context);
}

function registerDotfileRoutes(
  app: FastifyInstance,
  { services }: RouteContext,
  url: string,
  readOwner: ReadOwner,
): void {
  app.get(url, async (request, reply) => {
    const { callContext } = edgeOf(request);
    const params = readParams(request);
    const owner = readOwner(params);
    const path = params.text('path');
    params.check();
    if (path === undefined) {
      const files = await services.dotfile.list(owner, callContext);
      return sendJson(
        reply,
        200,
        files.map(({ content: data, permission, path: at }) => ({ path: at, permission, data })),
      );
    }
    const file: DotfileView = await services.dotfile.get({ ...owner, path }, callContext);
    return sendJson(reply, 200, { path: file.path, perm: file.permission, data: file.content });
  });

  app.post(url, async (request, reply) => {
    const input = readDotfile(request, readOwner);
    await services.dotfile.create(input, edgeOf(request).callContext).catch((thrown: unknown) => {
      if (!hasCode(thrown, 'object-exists')) throw thrown;
      // Official clients look for status 400 and these words.
      throw new AppError('invalid-input', 'Dotfile already exists.', { cause: thrown });
    });
    return sendJson(reply, 200, {});
  });

  app.patch(url, async (request, reply) => {
    await services.dotfile.modify(readDotfile(request, readOwner), edgeOf(request).callContext);
    return sendJson(reply, 200, {});
  });

  app.delete(url, async (request, reply) => {
    const params = readParams(request);
    const owner = readOwner(params);
    const path = params.requiredText('path');
    params.check();
    const ref = { ...owner, path: checked(dotfilePathSchema, path, 'path') };
    await services.dotfile.delete(ref, edgeOf(request).callContext);
    return sendJson(reply, 200, { success: true });
  });
}

function registerBootstrapScriptRoutes(app: FastifyInstance, { services }: RouteContext): void {
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

function readDotfile(request: FastifyRequest, readOwner: ReadOwner): WriteDotfileInput {
  const params = readParams(request);
  const owner = readOwner(params);
  const raw = {
    ...owner,
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
