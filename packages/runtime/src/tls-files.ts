import { readFileSync } from 'node:fs';
import { AppError } from '@backend.ai/core';

/** The PEM texts of a certificate and its key. @throws AppError `config-invalid` for a file that cannot be read */
export function readTlsFiles(
  certFile: string | undefined,
  keyFile: string | undefined,
): { readonly cert: string; readonly key: string } | undefined {
  return certFile === undefined || keyFile === undefined
    ? undefined
    : { cert: readPem(certFile), key: readPem(keyFile) };
}

/** The text of a PEM file, where one is configured. @throws AppError `config-invalid` when it cannot be read */
export function readPem(file: string): string;
export function readPem(file: string | undefined): string | undefined;
export function readPem(file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new AppError(
      'config-invalid',
      `The TLS file ${file} cannot be read (${(cause as NodeJS.ErrnoException).code}).`,
      {
        hint: 'See which file is configured with: config show',
        cause,
      },
    );
  }
}
