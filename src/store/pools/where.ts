export function evaluateWhere(_where: string, _unit: object): { fits: boolean } {
  return { fits: true }
}
export function nearestUnit(_request: object, _units: readonly object[]): { unit: string; why: string } | undefined {
  return undefined
}
