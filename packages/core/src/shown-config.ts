/** A hint about settings, with the command by which the component that has them shows its own, where that is known. */
export function withShownConfig(hint: string, showConfig: string | undefined): string {
  return showConfig === undefined ? hint : `${hint} What is in effect: ${showConfig}`;
}
