import { type AST, getStaticTOMLValue, ParseError, parseTOML } from 'toml-eslint-parser';

/** Where something stands in a file; both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** One value of a TOML file, or an empty table, with the names that lead to it. */
export interface TomlEntry extends Position {
  readonly path: readonly string[];
  /** Undefined for the head of a table. */
  readonly value: unknown;
}

export type TomlReading =
  | { readonly entries: TomlEntry[] }
  | { readonly error: Position & { readonly message: string } };

/** Flat: inline tables and dotted keys are the same as tables. */
export function readToml(text: string): TomlReading {
  try {
    const [table] = parseTOML(text, { tomlVersion: '1.0' }).body;
    return { entries: table.body.flatMap((node) => entriesOf(node, [])) };
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    return { error: { message: error.message, line: error.lineNumber, column: error.column + 1 } };
  }
}

function entriesOf(node: AST.TOMLTable | AST.TOMLKeyValue, prefix: readonly string[]): TomlEntry[] {
  const position = { line: node.loc.start.line, column: node.loc.start.column + 1 };
  if (node.type === 'TOMLTable') {
    const path = node.resolvedKey.map(String);
    return [{ path, value: undefined, ...position }, ...node.body.flatMap((child) => entriesOf(child, path))];
  }
  const path = [...prefix, ...getStaticTOMLValue(node.key)];
  const { value } = node;
  if (value.type === 'TOMLInlineTable') {
    return [{ path, value: undefined, ...position }, ...value.body.flatMap((child) => entriesOf(child, path))];
  }
  return [{ path, value: getStaticTOMLValue(value), ...position }];
}

/** The whole document as plain values, for files that are no configuration of a component. @throws what is no TOML */
export function parseToml(text: string): Record<string, unknown> {
  return getStaticTOMLValue(parseTOML(text, { tomlVersion: '1.0' })) as Record<string, unknown>;
}
