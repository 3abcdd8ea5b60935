import { type CreateSessionRequest, createSessionSchema, plainText } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { Composer, type CST, Lexer, Parser } from 'yaml';
import { z } from 'zod';

/** A template in the form of the original, and the session that it describes. */
export interface ParsedTemplate {
  readonly name: string;
  readonly template: Record<string, unknown>;
  readonly session: CreateSessionRequest;
}

const textMap = z.record(z.string(), z.union([z.string(), z.number()]));
const nameSchema = plainText(64).min(1);
/** Texts that are not checked here are checked as those of the session. */
export const templateSchema = z.strictObject({
  api_version: z.union([plainText(64), z.number()]).transform(String),
  kind: z.enum(['task_template', 'taskTemplate']),
  metadata: z.strictObject({ name: nameSchema, tag: z.string().nullish() }),
  spec: z.strictObject({
    session_type: z.string().default('interactive'),
    kernel: z.strictObject({
      image: z.string(),
      architecture: z.string().nullish(),
      environ: textMap.nullish(),
      run: z.strictObject({ bootstrap: z.string().nullish(), startup_command: z.string().nullish() }).nullish(),
      git: z.unknown().optional(),
    }),
    scaling_group: z.string().nullish(),
    mounts: z.record(z.string(), z.unknown()).nullish(),
    resources: textMap.nullish(),
    agent_list: z.array(z.string()).nullish(),
  }),
});

/** Other spellings, as official clients have them. */
const aliases: Readonly<Record<string, string>> = {
  apiVersion: 'api_version',
  type: 'session_type',
  sessionType: 'session_type',
  startup: 'startup_command',
  startupCommand: 'startup_command',
  scalingGroup: 'scaling_group',
  agentList: 'agent_list',
};
/** Their keys are the user's. */
const maps = ['environ', 'resources', 'mounts'];

/**
 * JSON or YAML: one template, several, or what official clients wrap them in.
 * @throws AppError `invalid-input` naming fields, `unsupported-feature`
 */
export function parseTemplates(payload: string): ParsedTemplate[] {
  const document = readText(payload);
  const wrapped = isObject(document) ? (document.session_templates ?? document) : document;
  const list = Array.isArray(wrapped) ? wrapped : [wrapped];
  if (list.length === 0 || list.length > 100) throw invalid({ payload: 'has between 1 and 100 templates' });
  return list.map((item) =>
    isObject(item) && isObject(item.template) ? parseTemplate(item.template, item.name) : parseTemplate(item),
  );
}

function parseTemplate(value: unknown, name?: unknown): ParsedTemplate {
  const checked = templateSchema.safeParse(value);
  if (!checked.success) throw invalidIssues(checked.error);
  return {
    name: nameSchema.safeParse(name).data ?? checked.data.metadata.name,
    template: checked.data,
    session: sessionOf(checked.data),
  };
}

/** What a stored template says of a session; as of when it was stored, it could be created. */
export function sessionOfTemplate(template: Record<string, unknown>): CreateSessionRequest {
  return sessionOf(templateSchema.parse(template));
}

function sessionOf({ metadata, spec }: z.output<typeof templateSchema>): CreateSessionRequest {
  const { kernel } = spec;
  if (kernel.git !== undefined && kernel.git !== null) throw notOffered('spec.kernel.git');
  if (Object.keys(spec.mounts ?? {}).length > 0) throw notOffered('spec.mounts');
  const wanted = {
    image: kernel.image,
    architecture: kernel.architecture,
    type: spec.session_type,
    environ: kernel.environ && mapped(kernel.environ, String),
    resources: spec.resources,
    tag: metadata.tag,
    resourceGroup: spec.scaling_group,
    bootstrapScript: kernel.run?.bootstrap,
    startupCommand: kernel.run?.startup_command,
    designatedAgents: spec.agent_list,
  };
  const session: Record<string, unknown> = Object.fromEntries(
    Object.entries(wanted).filter(([, item]) => item !== undefined && item !== null),
  );
  const checked = createSessionSchema.safeParse(session);
  if (!checked.success) throw invalidIssues(checked.error);
  return session as CreateSessionRequest;
}

function readText(payload: string): unknown {
  try {
    // JSON is YAML. What is no JSON, such as a node that is part of itself, is refused here.
    return withOfficialKeys(JSON.parse(JSON.stringify(parseYaml(payload)) ?? 'null'));
  } catch (cause) {
    throw new AppError('invalid-input', 'The payload is neither JSON nor YAML.', {
      data: { fields: { payload: 'is neither JSON nor YAML' } },
      cause,
    });
  }
}

/** Of nodes within nodes; templates have a handful. */
const deepest = 100;

function parseYaml(payload: string): unknown {
  // Of keys that stand twice the last one counts, as in JSON: comparing each with each takes minutes where they are many.
  const composer = new Composer({ logLevel: 'error', uniqueKeys: false });
  const composed = composer.compose(nodesOf(payload), true, payload.length);
  const [document, another] = composed;
  if (!document || another) throw new Error('It has more than one document.');
  const [error] = document.errors;
  if (error) throw error;
  return document.toJS({ maxAliasCount: 100 });
}

/**
 * What composes nodes goes down into them by calling itself, and where the stack ends while it compiles a regular
 * expression, Node ends the process: what is nested too deeply is refused before.
 */
function* nodesOf(payload: string): Generator<CST.Token> {
  const parser = new Parser();
  for (const lexeme of new Lexer().lex(payload)) {
    yield* parser.next(lexeme);
    if (parser.stack.length > deepest) throw new Error('It is nested too deeply.');
  }
  yield* parser.end();
}

function withOfficialKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withOfficialKeys);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      const name = aliases[key] ?? key;
      return [name, maps.includes(name) ? item : withOfficialKeys(item)];
    }),
  );
}

function mapped<T>(map: Record<string, T>, change: (item: T) => string): Record<string, string> {
  return Object.fromEntries(Object.entries(map).map(([key, item]) => [key, change(item)]));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function notOffered(field: string): AppError {
  return new AppError('unsupported-feature', `Templates with ${field} are not offered by this version.`, {
    data: { fields: { [field]: 'is not offered' } },
  });
}

function invalidIssues(error: z.ZodError): AppError {
  return invalid(Object.fromEntries(error.issues.map(({ path, message }) => [path.join('.') || 'payload', message])));
}

function invalid(fields: Record<string, string>): AppError {
  const text = Object.entries(fields).map(([name, problem]) => `${name} ${problem}`);
  return new AppError('invalid-input', `Invalid input: ${text.join('; ')}.`, { data: { fields } });
}
